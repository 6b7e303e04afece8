"""Clients that submit, cancel and ask all the time, whatever happens to the server, and remember what was accepted."""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx

from headway.model.times import to_rfc3339


@dataclass(slots=True)
class Counted:
    """What the clients saw."""

    accepted: dict[str, str] = field(default_factory=dict)  # job id -> task
    cancels_accepted: set[str] = field(default_factory=set)
    repeated: int = 0  # requests sent again under the same key after a lost answer
    lost_answers: int = 0
    refused: dict[str, int] = field(default_factory=dict)  # code of an answer that was neither 2xx nor 409
    wrong: list[str] = field(default_factory=list)


class Load:
    """Threads of clients over one server, whose URL may change under them.

    Args:
        seed: everything random follows from it.
        clients: how many threads.
        tasks: names of the kinds of `_requests`; all when empty.
        ahead: at most so many accepted jobs in each round, so that a round does not drown the machine.
    """

    def __init__(self, seed: str, *, clients: int = 2, tasks: tuple[str, ...] = (), ahead: int = 60) -> None:
        self.counted = Counted()
        self._tasks = tasks
        self._ahead = ahead
        self._url: str | None = None
        self._budget = 0
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [
            threading.Thread(target=self._client, args=(random.Random(f"{seed}-{number}"),))
            for number in range(clients)
        ]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._url = None
        self.end()

    def serve_at(self, url: str | None) -> None:
        """A new round: the server is there now (None: it is gone), and more may be submitted."""
        with self._lock:
            self._url = url
            self._budget = self._ahead

    def end(self) -> None:
        """Stop all clients; a request without an answer is sent until it has one, or the server is gone for good."""
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()

    def _client(self, random_: random.Random) -> None:
        pending: tuple[str, dict[str, Any]] | None = None
        with httpx.Client(timeout=30, trust_env=False) as http:
            while not self._stop.is_set() or pending is not None:
                url = self._url
                if url is None and self._stop.is_set():
                    return
                if url is None or (pending is None and not self._may_submit()):
                    time.sleep(0.02)
                    continue
                if pending is None:
                    pending = (uuid4().hex, self._request(random_))
                else:
                    self.counted.repeated += 1
                if self._submit(http, url, *pending):
                    pending = None
                    if random_.random() < 0.15:
                        self._cancel_one(http, url, random_)

    def _may_submit(self) -> bool:
        if self._stop.is_set():
            return False
        with self._lock:
            self._budget -= 1
            return self._budget >= 0

    def _request(self, random_: random.Random) -> dict[str, Any]:
        kinds: dict[str, dict[str, Any]] = {
            "quick": {"task": "work.quick", "args": [random_.randrange(1000)]},
            "patient": {"task": "work.patient", "args": [random_.uniform(0.05, 0.6)]},
            "computing": {"task": "work.computing", "args": [random_.uniform(0.05, 0.3)], "timeout_seconds": 30.0},
            "helper": {"task": "work.with_a_helper", "args": [round(random_.uniform(0.05, 0.3), 3)]},
            "flaky": {"task": "work.flaky", "args": [random_.randrange(3)]},
            "failing": {
                "task": "work.failing",
                "args": ["on purpose"],
                "max_retries": 2,
                "backoff": {"kind": "fixed", "base_seconds": 0.1},
            },
            "pipeline": {"task": "work.pipeline", "args": [random_.randrange(100)]},
            "later": {
                "task": "work.quick",
                "args": [7],
                "run_at": to_rfc3339(int((time.time() + random_.uniform(0.1, 1.0)) * 1_000_000)),
            },
        }
        weights = {"quick": 8, "patient": 3, "computing": 1, "helper": 1, "flaky": 2, "failing": 1, "pipeline": 1}
        names = list(self._tasks or kinds)
        return kinds[random_.choices(names, [weights.get(name, 1) for name in names])[0]]

    def _submit(self, http: httpx.Client, url: str, key: str, body: dict[str, Any]) -> bool:
        try:
            answer = http.post(f"{url}/api/v1/jobs", json=body, headers={"Idempotency-Key": key})
        except httpx.TransportError:
            self.counted.lost_answers += 1
            time.sleep(0.05)
            return False
        if answer.status_code == 503:
            with self._lock:
                code = answer.json()["code"]
                self.counted.refused[code] = self.counted.refused.get(code, 0) + 1
                if "retry-after" not in answer.headers:
                    self.counted.wrong.append(f"503 without Retry-After: {answer.text}")
            time.sleep(0.1)
            return False
        if answer.status_code != 202:
            with self._lock:
                self.counted.wrong.append(f"{answer.status_code} {answer.text[:300]}")
            return True
        with self._lock:
            self.counted.accepted[answer.json()["id"]] = body["task"]
        return True

    def _cancel_one(self, http: httpx.Client, url: str, random_: random.Random) -> None:
        with self._lock:
            recent = list(self.counted.accepted)[-20:]
        try:
            job_id = random_.choice(recent)
            answer = http.post(f"{url}/api/v1/jobs/{job_id}/cancel", json={"reason": "on purpose"})
        except httpx.TransportError:
            self.counted.lost_answers += 1
            return
        with self._lock:
            if answer.status_code in {200, 202}:
                self.counted.cancels_accepted.add(job_id)
            elif answer.status_code not in {409, 503}:
                self.counted.wrong.append(f"cancel: {answer.status_code} {answer.text[:300]}")

"""Somebody who asks for the situation twice a second through all that is broken, and notes every wrong answer."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

import httpx

EVERY_SECONDS = 0.5
# Until so long after it is away it may still be called healthy: what was asked a moment ago is not asked again at once.
PATIENCE_SECONDS = 3.0
# The promise is one; two shared cores that run a broker, workers and a storm beside it are forgiven another.
ANSWER_SECONDS = 2.0
# A frozen database is waited for somewhat longer before it is called away.
STORE_SECONDS = 5.0
RANKS = {"PENDING": 0, "RECEIVED": 1, "STARTED": 2, "RETRY": 3, "REJECTED": 11, "REVOKED": 12, "FAILURE": 13, "SUCCESS": 14}  # fmt: skip


class Watcher:
    """Asks until it is left; leaving it fails with everything that was wrong.

    Tasks that are retried must not be among those that it sees: their states go round.

    Args:
        url: of the server.
        database: whether our own database answers, so that lists do.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._stop = threading.Event()
        self._away: tuple[float, str] | None = None
        self._store_away = False
        self._ranks: dict[str, int] = {}
        self._thread = threading.Thread(target=self._run, name="watcher", daemon=True)
        self.wrong: list[str] = []
        self.healths: Counter[str] = Counter()
        self.slowest = 0.0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join(30)
        said = f"asked {self.healths.total()} times, {dict(self.healths)}, slowest {self.slowest:.2f} s"
        print(f"\nwatcher: {said}")
        if error is not None:
            error.add_note("\n".join([said, *self.wrong[:20]]))
            return
        assert self.healths.total() > 0, "nobody asked"
        assert not self.wrong, "\n".join(self.wrong[:20])

    @contextmanager
    def away(self, what: str, *, store: bool = False) -> Iterator[None]:
        """Meanwhile it is known that `what` is away: the broker, all workers, or (`store`) our own database."""
        self._store_away = store
        self._away = (time.monotonic(), what)
        try:
            yield
        finally:
            self._away = None
            self._store_away = False

    def _run(self) -> None:
        with httpx.Client(base_url=self._url, timeout=40, trust_env=False) as client:
            while not self._stop.wait(EVERY_SECONDS):
                self._ask(client)
                self._list(client)

    def _get(self, client: httpx.Client, path: str) -> tuple[httpx.Response | None, float]:
        began = time.monotonic()
        try:
            answer = client.get(path)
        except httpx.HTTPError as error:
            self.wrong.append(f"{path}: {error!r}")
            return None, 0.0
        return answer, time.monotonic() - began

    def _ask(self, client: httpx.Client) -> None:
        away, began, store = self._away, time.monotonic(), self._store_away
        answer, took = self._get(client, "/api/v1/sitrep")
        if answer is None:
            return
        self.slowest = max(self.slowest, took)
        if took > (STORE_SECONDS if store or self._store_away else ANSWER_SECONDS):
            self.wrong.append(f"the situation took {took:.2f} s while {away and away[1]} was away")
        if answer.status_code != 200:
            self.wrong.append(f"the situation was a {answer.status_code}: {answer.text[:300]}")
            return
        report = answer.json()
        health, rate = report["health_status"], report["task_metrics"]["success_rate"]
        self.healths[health] += 1
        known_away = away is not None and self._away is away and began - away[0] > PATIENCE_SECONDS
        if away is not None and known_away:
            self._judge(health, rate, f"{away[1]} away for {began - away[0]:.1f} s")
        if health == "unknown" and rate is not None:
            self.wrong.append(f"unknown, and a success rate of {rate}")

    def _judge(self, health: str, rate: float | None, when: str) -> None:
        if health == "ok":
            self.wrong.append(f"called healthy, {when}")
        if rate is not None:
            self.wrong.append(f"a success rate of {rate}, {when}")

    def _list(self, client: httpx.Client) -> None:
        before = self._store_away
        answer, _ = self._get(client, "/api/v1/tasks?limit=1000")
        if answer is None:
            return
        if answer.status_code != 200:
            if not (before or self._store_away) or answer.status_code != 503 or "code" not in answer.json():
                self.wrong.append(f"the list was a {answer.status_code}: {answer.text[:300]}")
            return
        for task in answer.json()["items"]:
            self._see(task)

    def _see(self, task: dict[str, Any]) -> None:
        rank = RANKS[task["celery_state"]]
        if rank < self._ranks.get(task["id"], -1):
            self.wrong.append(f"{task['id']} went back to {task['celery_state']} from {self._ranks[task['id']]}")
        self._ranks[task["id"]] = rank


def health(url: str) -> str:
    """The health that is said now."""
    answer = httpx.get(f"{url}/api/v1/sitrep", timeout=10, trust_env=False)
    return str(answer.json()["health_status"])

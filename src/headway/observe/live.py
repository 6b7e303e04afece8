"""Who is there now: asked when somebody wants to know, within the time that the report has."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from headway.model.errors import BrokerAway
from headway.observe.asking import Inspector, at_once
from headway.observe.brokers import broker_view
from headway.observe.target import Target
from headway.ports.clock import Clock
from headway.ports.cluster import LiveAnswer

_FRESH_SECONDS: Final = 1.0
_WORKERS_SECONDS: Final = 0.5
_RESERVE_SECONDS: Final = 0.15
_ANSWER_SECONDS: Final = 1.0
# Who asks every few seconds asks over the same reply queue.
_REST_SECONDS: Final = 5.0


class LiveAsker:
    """Answers "who is there now?" within a time limit, by a thread with connections of its own.

    Attributes:
        workers_at: when a worker last answered; None before.
    """

    def __init__(self, target: Target, clock: Clock, *, strict: bool) -> None:
        self._clock = clock
        self._strict = strict
        self._inspector = Inspector(target, "live", clock, keep=True, answer_seconds=_ANSWER_SECONDS)
        self._broker = broker_view(target)
        self._changed = threading.Condition()
        self._wanted = 0
        self._expected = 0
        self._ends = 0.0
        self._done = 0
        self._answer: LiveAnswer | None = None
        self._answered_at = 0.0
        self._stopping = False
        self.workers_at: int | None = None
        self._thread = threading.Thread(target=self._run, name="headway-live", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self, *, timeout: float) -> None:
        """Stop, and leave nothing behind at the broker."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join(timeout)

    def ask(self, timeout: float, expected: int) -> Callable[[], LiveAnswer]:
        """See ``ClusterView.live``; ``expected`` workers are waited for, 0 is as many as answer in the time."""
        ends = self._clock.monotonic() + timeout
        with self._changed:
            answer = self._answer
            if answer is not None and self._clock.monotonic() - self._answered_at < _FRESH_SECONDS:
                return lambda: answer
            ticket = self._wanted = self._done + 1
            self._expected, self._ends = expected, ends
            self._changed.notify_all()
        return lambda: self._wait(ticket, ends, timeout)

    def _wait(self, ticket: int, ends: float, timeout: float) -> LiveAnswer:
        with self._changed:
            while self._done < ticket:
                left = ends - self._clock.monotonic()
                if left <= 0 or not self._changed.wait(left):
                    says = f"the broker did not answer within {timeout:g} s"
                    return LiveAnswer(broker=False, workers=None, asked_at=self._clock.now(), says=says)
            assert self._answer is not None
            return self._answer

    def _run(self) -> None:
        # The first who asks has no time to wait for connections.
        with suppress(BrokerAway):
            self._broker.ping()
            if not self._strict:
                self._inspector.connect()
        while True:
            with self._changed:
                asked = self._changed.wait_for(lambda: self._wanted > self._done or self._stopping, _REST_SECONDS)
                if self._stopping:
                    break
                ticket, expected = self._wanted, self._expected
            if not asked:
                self._inspector.rest()
                continue
            answer = self._look(expected)
            with self._changed:
                self._answer, self._answered_at, self._done = answer, self._clock.monotonic(), ticket
                self._changed.notify_all()
        self._inspector.close()
        self._broker.close()

    def _look(self, expected: int) -> LiveAnswer:
        now = self._clock.now()
        try:
            if self._strict:
                at_once(self._clock, self._broker.ping)
                return LiveAnswer(broker=True, workers=None, asked_at=now, says="--strict: workers are not asked")
            answers = at_once(self._clock, lambda: self._ask_workers(expected))
            if not answers:
                # An answer comes through the broker; where there is none, one of the two is away.
                at_once(self._clock, self._broker.ping)
        except BrokerAway as error:
            return LiveAnswer(broker=False, workers=None, asked_at=now, says=error.message)
        if answers:
            self.workers_at = now
        says = "" if answers else f"no worker answered within {_WORKERS_SECONDS:g} s"
        return LiveAnswer(broker=True, workers=frozenset(answers), asked_at=now, says=says)

    def _ask_workers(self, expected: int) -> dict[str, Any]:
        self._inspector.connect()
        return self._inspector.ask("ping", timeout=self._left(), expected=expected)

    def _left(self) -> float:
        """How long workers are waited for: what connections took is taken from it, and what the rest may take."""
        return max(0.1, min(_WORKERS_SECONDS, self._ends - self._clock.monotonic() - _RESERVE_SECONDS))

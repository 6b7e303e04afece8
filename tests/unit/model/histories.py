"""Histories of one task as Celery really tells them, with workers whose clocks are wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from headway.model.evidence import Evidence
from headway.model.sayings import Said
from tests.observations import NOW, SECOND, said

CLIENT = "gen1@client"


@dataclass(frozen=True)
class History:
    """What was said in the true order, and what truly became of the task."""

    evidence: list[Evidence]
    state: str
    result: str | None = None
    error: str | None = None


class _Teller:
    """Tells what happens in true time, each by the clock of its own."""

    def __init__(self, skews: dict[str, int]) -> None:
        self.skews = skews
        self.now = NOW
        self.told: list[Evidence] = []

    def tell(self, what: Said, worker: str, **facts: Any) -> None:
        self.now += 1_000
        self.told.append(said("t", what, self.now + self.skews.get(worker, 0) * SECOND, worker, **facts))


@st.composite
def histories(draw: st.DrawFn) -> History:
    """Retries, redeliveries and requeues, then an end or none; with or without senders, starts and result backend."""
    workers = ["one@host", "two@host", "three@host"]
    skews = {name: draw(st.sampled_from([0, 0, -3600, -5, 7, 3600])) for name in [*workers, CLIENT]}
    teller = _Teller(skews)
    sent, results = draw(st.booleans()), draw(st.booleans())
    worker = draw(st.sampled_from(workers))
    if sent:
        teller.tell(Said.SENT, CLIENT, name="app.task", queue="celery", retries=0)
    error: str | None = None
    tries = draw(st.integers(0, 4))
    early = False
    for run in range(tries + 1):
        if not early:
            teller.tell(Said.RECEIVED, worker, name="app.task", retries=run)
        if draw(st.integers(0, 5)) == 0 and not early:
            teller.tell(Said.REQUEUED, worker)
            worker = draw(st.sampled_from(workers))
            teller.tell(Said.RECEIVED, worker, name="app.task", retries=run)
        early = False
        if run == tries:
            break
        teller.tell(Said.STARTED, worker)
        if sent:
            teller.tell(Said.SENT, worker, name="app.task", queue="celery", retries=run + 1)
        error = f"ValueError('try {run}')"
        if results:
            teller.tell(Said.RESULT_RETRY, "", error=error)
        following = draw(st.sampled_from([worker, worker, *workers]))
        early = draw(st.integers(0, 3)) == 0
        if early:
            # The message of the next try arrives before the event of the last.
            teller.tell(Said.RECEIVED, following, name="app.task", retries=run + 1)
        teller.tell(Said.RETRIED, worker, error=error)
        worker = following
    return _ended(draw, teller, worker, error, results=results)


def _ended(draw: st.DrawFn, teller: _Teller, worker: str, error: str | None, *, results: bool) -> History:
    end = draw(st.sampled_from(["SUCCESS", "FAILURE", "REVOKED", "REJECTED", "STARTED", "RECEIVED"]))
    result: str | None = None
    if end in ("SUCCESS", "FAILURE", "STARTED", "REJECTED"):
        teller.tell(Said.STARTED, worker)
    if end == "STARTED":
        teller.tell(Said.SEEN_RUNNING, worker, retries=max(one.facts.get("retries") or 0 for one in teller.told))
    elif end == "SUCCESS":
        result, error = "3", None
        if results:
            teller.tell(Said.RESULT_SUCCESS, "", result="3")
        teller.tell(Said.SUCCEEDED, worker, result="3", runtime=0.25)
        if draw(st.booleans()):
            # Delivered twice: the other one fails, and changes nothing.
            teller.tell(Said.RECEIVED, "four@host", name="app.task", retries=0)
            teller.tell(Said.STARTED, "four@host")
            teller.tell(Said.FAILED, "four@host", error="OSError('again')")
    elif end == "FAILURE":
        error = "KeyError('end')"
        if results:
            teller.tell(Said.RESULT_FAILURE, "", error=error, traceback="lines")
        teller.tell(Said.FAILED, worker, error=error, traceback="lines")
    elif end == "REVOKED":
        error = "terminated"
        teller.tell(Said.REVOKED, worker, error=error)
    elif end == "REJECTED":
        teller.tell(Said.REJECTED, worker)
    return History(teller.told, end, result, error)

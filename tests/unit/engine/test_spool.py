from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from headway.engine.embedded.spool import Spool, offer_spooled
from headway.model.commands import Begun, Finish, FinishAnswer, NewJoin, Resend, SubmitJob
from headway.model.errors import JobNotFound, StoreUnavailable
from headway.model.job import Backoff, ErrorInfo
from headway.model.states import AttemptOutcome

BEGUN = Begun(
    job_id="an/odd id", fence=3, attempt=2, task="t", args_json="[]", kwargs_json="{}", canvas_json=None, queue="q",
    priority=0, celery_retries=1, max_retries=5, retries_used=0, rescues=0, timeout_seconds=None, isolation="thread",
    backoff_json=None, root_id=None, parent_id=None, traceparent=None, begun_at=5,
)  # fmt: skip
FULL = Finish(
    "an/odd id",
    3,
    AttemptOutcome.RETRIED,
    error=ErrorInfo("task_failed", "no", "trace", "ValueError"),
    sends=(SubmitJob("next", [1], {"a": None}, backoff=Backoff("fixed", 2.0)),),
    resend=Resend("t", [1], {}, 77, 2, {"chain": []}),
    begun=BEGUN,
    joins=(NewJoin("g", 2, ["a", ["b"]]),),
    awaits_send=True,
    part_json="[1]",
    children_json="[]",
    grows={"g": 1},
)


class Door:
    """Only `finish`, as `offer_spooled` needs it: it raises what it is given, or answers."""

    def __init__(self, *raises: Exception | None) -> None:
        self.raises = list(raises)
        self.told: list[Finish] = []

    def finish(self, finish: Finish) -> FinishAnswer:
        error = self.raises.pop(0) if self.raises else None
        if error is not None:
            raise error
        self.told.append(finish)
        return FinishAnswer(None)


def offer(spool: Spool, door: Door) -> int:
    return offer_spooled(spool, door)  # type: ignore[arg-type] # of the port, only `finish` is called


def spool_of(tmp_path: Path, finishes: Sequence[Finish]) -> Spool:
    spool = Spool(tmp_path / "spool")
    for finish in finishes:
        spool.put(finish)
    return spool


def test_a_finish_comes_back_from_disk_as_it_was(tmp_path: Path) -> None:
    spool_of(tmp_path, [FULL])
    assert Spool(tmp_path / "spool").waiting() == [FULL]


def test_answered_finishes_leave_the_disk(tmp_path: Path) -> None:
    spool, door = spool_of(tmp_path, [FULL, Finish("b", 1, AttemptOutcome.SUCCEEDED, "1")]), Door()
    assert offer(spool, door) == 2
    assert {finish.job_id for finish in door.told} == {"an/odd id", "b"}
    assert len(spool) == 0


def test_what_the_store_did_not_answer_stays(tmp_path: Path) -> None:
    spool = spool_of(tmp_path, [FULL])
    with pytest.raises(StoreUnavailable):
        offer(spool, Door(StoreUnavailable("away")))
    assert spool.waiting() == [FULL]


def test_what_the_door_refuses_for_good_is_not_offered_for_ever(tmp_path: Path) -> None:
    spool = spool_of(tmp_path, [FULL])
    assert offer(spool, Door(JobNotFound("gone"))) == 1
    assert len(spool) == 0


def test_a_damaged_file_is_set_aside_and_the_others_are_read(tmp_path: Path) -> None:
    spool = spool_of(tmp_path, [FULL])
    (tmp_path / "spool" / "half.json").write_text('{"format": 1, "fin')
    assert spool.waiting() == [FULL]
    assert (tmp_path / "spool" / "half.bad").exists()


def test_a_crash_between_write_and_rename_leaves_nothing_half(tmp_path: Path) -> None:
    spool = spool_of(tmp_path, [FULL])
    (tmp_path / "spool" / "x.part").write_text(json.dumps({"finish": {}}))
    assert spool.waiting() == [FULL]


def test_a_finish_that_can_never_be_stored_is_set_aside_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = spool_of(tmp_path, [FULL, Finish("b", 1, AttemptOutcome.SUCCEEDED, "1")])
    door = Door(OverflowError("too large"))
    assert offer(spool, door) == 1
    assert len(door.told) == 1
    assert len(spool) == 0
    (kept,) = (tmp_path / "spool").glob("*.bad")
    (refused,) = {"an/odd id", "b"} - {finish.job_id for finish in door.told}
    assert json.loads(kept.read_text())["finish"]["job_id"] == refused
    assert refused in caplog.text


def test_half_written_files_of_a_crash_are_removed_at_the_start(tmp_path: Path) -> None:
    spool = spool_of(tmp_path, [FULL])
    (tmp_path / "spool" / "x.part").write_text("{")
    assert offer(spool, Door()) == 1
    assert list((tmp_path / "spool").iterdir()) == []

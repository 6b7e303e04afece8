"""The checker finds what it is for: each kind of damage, done to a real database, is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from headway.model.commands import Finish
from headway.model.errors import StoreUnavailable
from headway.model.states import AttemptOutcome, JobState
from headway.service import StoreJobDoor, cancel_job, rescue_lapsed
from headway.testing import InvariantBroken, check_invariants
from tests.unit.store.house import House, open_house

AGAIN = """INSERT INTO events SELECT 99, 11, job_id, task, state, verb, attempt, fence, actor, at, data
    FROM events WHERE verb = 'succeed'"""
FACTS = {"host": "h", "pid": 1, "slots": 1, "version": "0"}


@pytest.fixture
def house(tmp_path: Path) -> House:
    """One job of each kind: succeeded, running, rescued, cancelled, queued."""
    made = open_house(tmp_path)
    made.store.write(lambda tx: tx.register_worker("w", FACTS))
    door = StoreJobDoor(made.ctx, "w")
    made.submit(job_id="rescued")
    door.begin(1)
    rescue_lapsed(made.ctx, silent_for=None)
    (begun,) = door.begin(1)
    door.finish(Finish(begun.job_id, 2, AttemptOutcome.SUCCEEDED, result_json="1", begun=begun))
    made.submit(job_id="running")
    door.begin(1)
    made.submit(job_id="cancelled")
    cancel_job(made.ctx, "cancelled")
    made.submit(job_id="queued")
    return made


def damaged(house: House, sql: str) -> None:
    """Change the file behind the store's back."""
    house.store.write(lambda tx: tx._cursor.execute("PRAGMA ignore_check_constraints = ON"))  # type: ignore[attr-defined]
    house.store.write(lambda tx: tx._cursor.execute(sql))  # type: ignore[attr-defined]


def test_what_is_whole_is_counted(house: House) -> None:
    counted = check_invariants(house.store)
    assert counted.jobs == dict.fromkeys((JobState.SUCCEEDED, JobState.RUNNING, JobState.CANCELLED, JobState.QUEUED), 1)
    assert counted.attempts == {"abandoned": 1, "succeeded": 1, "open": 1}
    assert (counted.total, counted.ended, counted.events, counted.newest, counted.rescues) == (4, 2, 10, 10, 1)
    assert "4 jobs (1 cancelled, 1 queued, 1 running, 1 succeeded); 3 attempts" in str(counted)
    house.store.close()


@pytest.mark.parametrize(
    ("sql", "complaint"),
    [
        ("UPDATE jobs SET state = 'failed', finished_at = 1 WHERE id = 'queued'", "its last event says queued"),
        ("UPDATE jobs SET finished_at = 1 WHERE id = 'queued'", "finished_at is 1"),
        ("UPDATE jobs SET worker_id = NULL WHERE id = 'running'", "without a worker"),
        ("UPDATE jobs SET fence = 7 WHERE id = 'running'", "its fence is 7"),
        ("UPDATE jobs SET attempts = 7 WHERE id = 'running'", "it counts 7 tries"),
        ("UPDATE jobs SET rescues = 0 WHERE id = 'rescued'", "it counts 0 rescues"),
        ("DELETE FROM attempts WHERE job_id = 'running'", "its attempts have"),
        ("UPDATE attempts SET outcome = 'succeeded' WHERE fence = 1 AND job_id = 'rescued'", "its good attempts are"),
        ("UPDATE attempts SET outcome = NULL, finished_at = NULL WHERE fence = 1", "its open attempts are"),
        ("DELETE FROM events WHERE pos = 4", "position 5 follows 3"),
        ("DELETE FROM events WHERE pos = 10", "its last event says None"),
        ("UPDATE events SET job_id = 'nobody' WHERE pos = 10", "events of nobody"),
        ("UPDATE events SET state = 'failed', verb = 'fail' WHERE pos = 10", "fail cannot follow None"),
        ("UPDATE events SET state = 'failed' WHERE pos = 2", "begin says failed"),
        (AGAIN, "ended more than once"),
    ],
)  # fmt: skip
def test_each_kind_of_damage_is_named(house: House, sql: str, complaint: str) -> None:
    damaged(house, sql)
    with pytest.raises(InvariantBroken, match=complaint):
        check_invariants(house.store)
    house.store.close()


def test_a_store_that_does_not_answer_is_not_called_whole(house: House) -> None:
    house.store.close()
    (Path(str(house.services.blobs._root)).parent / "registry.db").unlink()  # type: ignore[attr-defined]
    with pytest.raises((StoreUnavailable, InvariantBroken)):
        check_invariants(house.store)

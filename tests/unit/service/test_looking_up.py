"""A task that is not stored: nobody knows it, or nobody can say, because the result backend did not answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from headway.model.errors import ResultsAway, TaskNotFound
from headway.model.sayings import Said
from headway.ports.cluster import LiveAnswer, LookedUp, Source
from headway.service import Context, Limits, get_task, related_tasks
from tests.observations import batch, door_over, said
from tests.unit.store.house import House, open_house


@dataclass
class Backend:
    """A ``ClusterView`` whose result backend says so."""

    says: LookedUp
    stores: Callable[[], object] = lambda: None

    def live(self, timeout: float) -> Callable[[], LiveAnswer]:
        raise NotImplementedError

    def sources(self) -> list[Source]:
        raise NotImplementedError

    def beat_schedule(self) -> dict[str, Any]:
        raise NotImplementedError

    def look_up(self, task_id: str, timeout: float) -> LookedUp:
        self.stores()
        return self.says


@pytest.fixture
def house(tmp_path: Path) -> House:
    return open_house(tmp_path, limits=Limits(observed_retention_seconds=3 * 86_400, job_retention_seconds=0))


def over(house: House, cluster: Backend | None) -> Context:
    return replace(house.ctx, services=replace(house.services, cluster=cluster))


@pytest.mark.parametrize("verb", [get_task, related_tasks])
def test_who_does_not_answer_does_not_say_that_there_is_none(house: House, verb: Any) -> None:
    with pytest.raises(ResultsAway, match="did not answer") as caught:
        verb(over(house, Backend(LookedUp.NOT_ASKED)), "t1")
    assert (caught.value.code, caught.value.kind.value) == ("results_away", "unavailable")
    assert caught.value.hint


@pytest.mark.parametrize("verb", [get_task, related_tasks])
@pytest.mark.parametrize(
    ("cluster", "hint"),
    [
        (Backend(LookedUp.NOBODY_KNOWS), "The result backend was asked too"),
        (Backend(LookedUp.NOT_READABLE), "There is no result backend that could be asked"),
        (None, "No result backend was asked"),
    ],
)
def test_a_task_that_nobody_knows_says_where_was_looked(
    house: House, verb: Any, cluster: Backend | None, hint: str
) -> None:
    with pytest.raises(TaskNotFound, match="'t1'") as caught:
        verb(over(house, cluster), "t1")
    assert caught.value.hint.startswith(hint)
    assert "kept for 3 days (HEADWAY_OBSERVED_RETENTION_SECONDS)" in caught.value.hint
    assert "jobs for ever (JOB_RETENTION_SECONDS=0)" in caught.value.hint


@pytest.mark.parametrize("says", list(LookedUp))
def test_what_was_stored_meanwhile_is_shown_whatever_came_of_it(house: House, says: LookedUp) -> None:
    """Another look-up, or an event, may have been quicker."""
    door = door_over(house.services)
    backend = Backend(says, lambda: door.record(batch(said("t1", Said.RESULT_SUCCESS, worker=""))))
    assert get_task(over(house, backend), "t1").celery_state == "SUCCESS"
    assert [one.id for one in related_tasks(over(house, backend), "t1")] == ["t1"]

"""Canvas in the embedded engine: chords, replacements and saved groups, in threads and in child processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from celery import chain, chord, group
from celery.exceptions import ChordError, TaskRevokedError
from celery.result import AsyncResult, GroupResult

from headway.model.states import JobState
from headway.service import cancel_job, read_workflow
from headway.testing.invariants import check_invariants
from tests.integration.engine import sample
from tests.integration.engine.conftest import Node
from tests.waiting import wait_until

add, xsum, as_given, boom = sample.add, sample.xsum, sample.as_given, sample.boom


CANVASES: dict[str, tuple[Callable[[], Any], Any]] = {
    "chord": (lambda: chord([add.s(i, i) for i in range(5)], xsum.s()), 20),
    "group then task": (lambda: group(add.s(i, i) for i in range(5)) | as_given.s(), [0, 2, 4, 6, 8]),
    "generator": (lambda: chord((add.s(i, i) for i in range(3)), as_given.s()), [0, 2, 4]),
    "empty header": (lambda: chord([], as_given.s()), []),
    "one part": (lambda: chord([add.s(1, 1)], as_given.s()), [2]),
    "chord in a header": (lambda: chord([chord([add.s(1, 1), add.s(2, 2)], xsum.s()), add.s(3, 3)], as_given.s()), [6, 6]),
    "chain in a header": (lambda: chord([add.s(1, 1) | add.s(5), add.s(2, 2)], as_given.s()), [7, 4]),
    "group in a header": (lambda: chord([group(add.s(1, 1), add.s(2, 2)), add.s(3, 3)], xsum.s()), 12),
    "chain of a group in a header": (
        lambda: chord([add.s(1, 1) | group(add.s(1), add.s(2)), add.s(3, 3)], as_given.s()), [[3, 4], 6]),
    "chord whose body is a group in a header": (
        lambda: chord([chord([add.s(1, 1)], group(xsum.s(), as_given.s())), add.s(9, 9)], as_given.s()), [[2, [2]], 18]),
    "chain as a body": (lambda: chord([add.s(1, 1), add.s(2, 2)], xsum.s() | add.s(10)), 16),
    "chord as a body": (lambda: chord([add.s(1, 1)], chord([xsum.s(), xsum.s()], as_given.s())), [2, 2]),
    "group as a body": (lambda: chord([add.s(1, 1)], group(xsum.s(), as_given.s())), [2, [2]]),
    "chords in a chain": (
        lambda: add.s(1, 1) | group(add.s(1), add.s(2)) | xsum.s() | group(add.s(1), add.s(2)) | as_given.s(), [8, 9]),
    "a part that keeps no result": (lambda: chord([sample.silent.s("quiet"), add.s(1, 1)], as_given.s()), ["quiet", 2]),
    "immutable body": (lambda: chord([add.s(1, 1)], add.si(7, 7)), 14),
    "arguments of its own": (lambda: chord([add.s(1, 1), add.s(2, 2)], as_given.s() | add.s(["x"])), [2, 4, "x"]),
    "added parts": (lambda: chord([sample.adds_to_its_chord.s([1, 2]), add.s(3, 3)], xsum.s()), 9),
    "replaced by a group": (lambda: sample.replaced_by_group.s([1, 2]), [2, 3]),
    "replaced by a chain": (lambda: sample.replaced_by_chain_of.s(add.s(1, 2), add.s(3)), 6),
    "replaced by a chord": (lambda: sample.replaced_by_chain_of.s(group(add.s(1, 2), add.s(3, 4)), xsum.s()), 10),
    "replaced in the midst of a chain": (
        lambda: add.s(1, 1) | sample.replaced_by_chain_of.si(add.s(1, 2), add.s(3)) | add.s(100), 106),
    "replaced parts": (
        lambda: chord([sample.replaced_by_chain_of.s(add.s(1, 2), add.s(3)), sample.replaced_by_group.s([1, 2]),
                       sample.replaced.s(5)], as_given.s()), [6, [2, 3], 105]),
    "a replacement that is replaced": (
        lambda: sample.replaced_by_chain_of.s(add.s(1, 2), sample.replaced.s(), sample.replaced.s()), 203),
    "a replaced body": (lambda: chord([add.s(1, 1), add.s(2, 2)], sample.replaced_by_group.s()), [3, 5]),
    "children": (lambda: chord([sample.add_in_child.s(i, i) for i in range(3)], sample.xsum_in_child.s()), 6),
    "a child that is replaced": (lambda: sample.child_replaced_by_group.s([1, 2]) | as_given.s(), [2, 3]),
}  # fmt: skip


@pytest.mark.parametrize("name", CANVASES)
def test_a_canvas_runs(node: Node, name: str) -> None:
    make, expected = CANVASES[name]
    assert make().delay().get(timeout=15) == expected
    check_invariants(node.store)


def test_a_group_is_given_as_a_result_of_groups(node: Node) -> None:
    result: Any = chain(add.s(1, 1), group(add.s(1), add.s(2))).delay()
    assert isinstance(result, GroupResult)
    assert result.get(timeout=10) == [3, 4]
    assert (result.ready(), result.successful(), result.completed_count()) == (True, True, 2)
    assert result.join(timeout=5) == [3, 4]


def test_groups_are_saved_restored_and_deleted(node: Node) -> None:
    result: Any = group(add.s(1, 1), chord([add.s(2, 2)], xsum.s())).delay()
    result.save()
    again: Any = GroupResult.restore(result.id, app=sample.app)
    assert again is not None
    assert again.id == result.id
    assert again.get(timeout=10) == [2, 4]
    again.delete()
    assert GroupResult.restore(result.id, app=sample.app) is None


def test_a_child_sends_chords_and_saves_groups(node: Node) -> None:
    group_id = sample.sends_a_chord.delay([1, 2]).get(timeout=20)
    saved = GroupResult.restore(group_id, app=sample.app)
    assert saved is not None
    assert saved.get(timeout=20) == [2, 3]
    wait_until(lambda: node.store.read(lambda reader: reader.counts())[JobState.QUEUED] == 0, what="the body to run")


def test_a_failing_part_fails_the_body_without_running_it(node: Node) -> None:
    result: Any = chord([add.s(1, 1), boom.s("no")], xsum.s().on_error(sample.failed_for.s())).delay()
    # Celery asks the parents first: what is raised is the part's own exception.
    with pytest.raises(ValueError, match="no"):
        result.get(timeout=10)
    part = result.parent.results[1]
    with pytest.raises(ChordError) as raised:
        AsyncResult(result.id, app=sample.app).get(timeout=10)
    assert str(raised.value) == f"Dependency {part.id} raised ValueError('no')"
    body = node.door.get(result.id)
    assert (body.error.code, body.attempts) == ("chord_broken", 1)
    # The errback is its child, and was told of it.
    assert result.children[0].get(timeout=10) == [f"errback of {result.id}"]
    check_invariants(node.store)


def test_the_jobs_of_a_group_as_a_body_fail_with_the_parts_own_exception(node: Node) -> None:
    result: Any = chain(group(add.s(1, 1), boom.s("no")), group(add.si(1, 2), add.si(3, 4))).delay()
    with pytest.raises(ValueError, match="no"):
        result.get(timeout=10)
    assert {node.ended(one.id).error.code for one in result.results} == {"chord_broken"}
    check_invariants(node.store)


def test_a_broken_body_of_a_child_fails_there(node: Node) -> None:
    result: Any = chord([sample.segfaults.s(), add.s(1, 1)], sample.xsum_in_child.s()).delay()
    error = node.ended(result.id).error
    assert error.code == "chord_broken"
    assert "raised WorkerLostError" in error.message


def test_a_failure_reaches_the_outermost_body(node: Node) -> None:
    inner = chord([boom.s("deep"), add.s(1, 1)], xsum.s() | add.s(1))
    result: Any = chord([inner, add.s(2, 2)], xsum.s()).delay()
    with pytest.raises(ChordError, match="Dependency"):
        AsyncResult(result.id, app=sample.app).get(timeout=10)
    check_invariants(node.store)


def test_a_chain_that_breaks_inside_a_header_breaks_the_chord(node: Node) -> None:
    result: Any = chord([chain(boom.s("first"), as_given.s(), as_given.s()), add.s(2, 2)], xsum.s()).delay()
    with pytest.raises(ValueError, match="first"):
        result.get(timeout=10)
    assert node.ended(result.id).error.code == "chord_broken"
    check_invariants(node.store)


def test_a_replacement_that_fails_fails_what_it_stands_for(node: Node) -> None:
    result: Any = sample.replaced_by_chain_of.delay(boom.s("gone"), as_given.s(), as_given.s())
    with pytest.raises(ValueError, match="gone"):
        result.get(timeout=10)
    job = node.ended(result.id)
    assert (job.error.code, job.attempts) == ("chain_broken", 1)
    check_invariants(node.store)


def test_the_jobs_own_rule_does_not_retry_a_broken_body(node: Node) -> None:
    result: Any = chord([boom.s("no")], sample.headway_retries.s()).delay()
    assert node.ended(result.id).error.code == "chord_broken"
    assert node.outcomes(result.id) == ["failed"]


def test_a_part_that_a_child_promised_is_waited_for(node: Node) -> None:
    promising = sample.adds_from_a_child.s([10, 20])
    promising.link(sample.send_it.s())
    result: Any = chord([promising, add.s(1, 1)], as_given.s()).delay()
    values = result.get(timeout=15)
    assert sorted(value for value in values if isinstance(value, int)) == [2, 10, 20]
    assert len(values) == 4
    check_invariants(node.store)


def test_a_group_is_revoked(node: Node) -> None:
    result: Any = (group(sample.wait_open.si() for _ in range(2)) | xsum.s()).delay()
    extra: Any = group(add.s(1, 1), add.s(2, 2)).apply_async(countdown=3600)
    extra.revoke()
    for part in extra.results:
        with pytest.raises(TaskRevokedError):
            part.get(timeout=5)
    result.revoke()
    assert node.door.get(result.id).state is JobState.CANCELLED
    sample.OPEN.set()
    result.parent.get(timeout=10)
    # Revoking what has ended changes nothing.
    extra.revoke()
    check_invariants(node.store)


def test_a_part_that_is_cancelled_breaks_the_chord(node: Node) -> None:
    result: Any = chord([add.s(1, 1), add.s(2, 2).set(countdown=3600)], xsum.s()).delay()
    cancel_job(node.ctx, result.parent.results[1].id)
    assert node.ended(result.id).error.message.endswith(
        "raised TaskRevokedError('the job was cancelled before it began')"
    )


def test_a_body_runs_in_its_own_queue_after_its_own_countdown(node: Node) -> None:
    result: Any = chord([add.s(1, 1)], xsum.s().set(queue="other", countdown=0.2)).delay()
    body = node.ended(result.id)
    assert (body.queue, body.args) == ("other", [[2]])
    assert body.run_at is not None
    assert body.started_at >= body.run_at


def test_children_and_parents_are_as_celery_has_them(node: Node) -> None:
    result: Any = chain(add.s(1, 1), add.s(2), add.s(3)).delay()
    assert result.get(timeout=10) == 7
    root = result.parent.parent
    assert [value for _, value in root.collect(timeout=5)] == [2, 4, 7]
    assert root.children == [result.parent]
    fresh: Any = AsyncResult(root.id, app=sample.app)
    assert [child.id for child in fresh.children] == [result.parent.id]


def test_a_workflow_shows_as_one(node: Node) -> None:
    result: Any = chord([add.s(1, 1), chain(add.s(2, 2), add.s(1))], xsum.s() | add.s(1)).delay()
    assert result.get(timeout=10) == 8
    for job_id in (result.id, result.parent.results[0].id):
        assert len(read_workflow(node.ctx, job_id).jobs) == 5
    body = next(job for job in read_workflow(node.ctx, result.id).jobs if job.task == "xsum")
    assert body.parent_id in [part.id for part in result.parent.results]


def test_a_header_that_cannot_be_sent_sends_nothing(node: Node) -> None:
    before = node.store.read(lambda reader: reader.feed_bounds())
    with pytest.raises(Exception, match="cannot be stored"):
        chord([add.s(1, 1), add.s(object(), 1)], xsum.s()).delay()
    assert node.store.read(lambda reader: reader.feed_bounds()) == before
    assert chord([add.s(1, 1)], xsum.s()).delay().get(timeout=10) == 2

"""What truly happened to each task: from the effects that the executions left, and from what was done to the rest."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.cluster.load import Record
from tests.waiting import wait_until

STATES = {"success": "SUCCESS", "failure": "FAILURE", "reject": "REJECTED", "ignore": "IGNORED", "retry": "RETRY"}


@dataclass(frozen=True)
class Effect:
    """One line of the effects file."""

    id: str
    name: str
    what: str
    retries: int
    root_id: str | None
    parent_id: str | None
    worker: str
    pid: int
    time: float


@dataclass(frozen=True)
class Truth:
    """What truly became of one task.

    `state` is Celery's word, None where nobody can say; `runs` counts the executions that started, those that were
    killed and those of retries included; `worker` is the node of the last one. Root and parent are those of the first
    execution: Celery makes a task that is retried its own parent. Root None is unknown, and the parent then, too.
    """

    id: str
    name: str
    kind: str
    state: str | None
    runs: int
    retries: int
    worker: str | None
    root_id: str | None
    parent_id: str | None


def read_effects(path: Path) -> list[Effect]:
    """The lines so far, a half-written last one excepted."""
    if not path.exists():
        return []
    lines = path.read_bytes().splitlines(keepends=True)
    return [Effect(**json.loads(line)) for line in lines if line.endswith(b"\n")]


def running(effects: Iterable[Effect], worker: str | None = None) -> dict[str, Effect]:
    """The starts without an end, by task id: what is being executed, or what was when its process was killed.

    Args:
        effects: what `read_effects` gave.
        worker: only those of this node.
    """
    last = {key: lines[-1] for key, lines in _by_task(effects).items()}
    return {key: effect for key, effect in last.items() if effect.what == "start" and worker in {None, effect.worker}}


def truth(effects: Iterable[Effect], records: Iterable[Record]) -> dict[str, Truth]:
    """What is true of each task that was sent, as far as it has happened.

    Raises:
        AssertionError: a task was executed that nobody sent, or ended otherwise than the load foresaw.
    """
    by_task = _by_task(effects)
    known = {record.id: record for record in records}
    assert not by_task.keys() - known.keys(), f"executed, but not sent: {by_task.keys() - known.keys()}"
    found = {key: _of_one(record, by_task.get(key, [])) for key, record in known.items()}
    wrong = [
        f"{t.id} {t.kind} {t.name}: foreseen {known[key].state}, became {t.state}"
        for key, t in found.items()
        if t.state in set(STATES.values()) - {"RETRY"} and known[key].state not in {None, t.state}
    ]
    wrong += [
        f"{t.id} {t.kind} {t.name}: foreseen below {known[key].parent_id}, was below {t.parent_id}"
        for key, t in found.items()
        if known[key].root_id and (t.root_id, t.parent_id) != (known[key].root_id, known[key].parent_id)
    ]
    assert not wrong, "\n".join(wrong)
    return found


def settle(
    effects: Path, records: Collection[Record], *, seconds: float = 120.0, lost: Collection[str] = ()
) -> dict[str, Truth]:
    """Wait until every task has come to the end that its effects or the load foresee, and return the truth.

    Args:
        effects: the file of the cluster.
        records: what was sent.
        seconds: the deadline.
        lost: ids that are not waited for, because what executed or held them was killed.

    Raises:
        AssertionError: the deadline passed; the text names some that are missing. Or what `truth` raises.
    """
    missing: list[str] = []

    def quiet() -> bool:
        found = truth(read_effects(effects), records)
        missing[:] = [
            f"{r.id} {r.kind} {r.name}: {found[r.id].state}, foreseen {r.state}"
            for r in records
            if r.id not in lost and not _ended(r, found[r.id])
        ]
        return not missing

    try:
        wait_until(quiet, what="the cluster to be quiet", seconds=seconds, every=0.2)
    except AssertionError as error:
        error.add_note(f"{len(missing)} have not ended, as\n" + "\n".join(missing[:20]))
        raise
    return truth(read_effects(effects), records)


def _ended(record: Record, found: Truth) -> bool:
    if record.executed:
        return found.state in {"SUCCESS", "FAILURE", "REJECTED", "IGNORED"}
    return record.state is None or found.state == record.state


def _of_one(record: Record, lines: list[Effect]) -> Truth:
    starts = [line for line in lines if line.what == "start"]
    state = STATES.get(lines[-1].what) if lines else None
    if state is None and not record.executed:
        state = record.state
    return Truth(
        id=record.id,
        name=record.name,
        kind=record.kind,
        state=state,
        runs=len(starts),
        retries=max((line.retries for line in lines), default=0),
        worker=starts[-1].worker if starts else None,
        root_id=lines[0].root_id if lines else record.root_id,
        parent_id=lines[0].parent_id if lines else record.parent_id,
    )


def _by_task(effects: Iterable[Effect]) -> dict[str, list[Effect]]:
    by_task: dict[str, list[Effect]] = defaultdict(list)
    for effect in effects:
        by_task[effect.id].append(effect)
    for lines in by_task.values():
        # A retry may start elsewhere before the attempt that asked for it has written its own end.
        lines.sort(key=lambda line: (line.retries, line.time))
    return by_task

"""What goes into the store together: the jobs of one send, of a group, or of a chord with its body."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from headway.model.commands import NewJoin, SubmitJob

if TYPE_CHECKING:
    from celery import Celery


@dataclass(slots=True)
class Parcel:
    """Jobs that are stored all or none.

    Attributes:
        commands: in the order they were sent.
        chords: chords whose header is among them.
        replaces: whether they stand for the running job.
    """

    commands: list[SubmitJob] = field(default_factory=list)
    chords: list[Chord] = field(default_factory=list)
    replaces: bool = False

    def unpacked(self) -> tuple[list[SubmitJob], list[NewJoin], bool]:
        """All jobs, bodies after their headers; what the bodies wait for; whether they stand for the running job."""
        commands, joins, replaces = list(self.commands), [], self.replaces
        for chord in self.chords:
            inner, inner_joins, inner_replaces = chord.body.unpacked()
            commands += inner
            joins += [NewJoin(chord.group_id, chord.size, chord.shape), *inner_joins]
            replaces = replaces or inner_replaces
        return commands, joins, replaces


@dataclass(slots=True)
class Chord:
    """One chord whose body has been packed and whose header is being sent.

    Attributes:
        group_id: Celery's id of the header.
        body: what waits for the header.
        shape: ids of the header's results, nested; None where none of them is a group's.
        size: how many jobs must end; 0 until Celery has said it.
    """

    group_id: str
    body: Parcel
    shape: list[Any] | None
    size: int = 0


class Sending:
    """What one thread is sending now.

    Attributes:
        parcel: where sends go; None while each is stored by itself.
        waits_for: the join that they wait for: they are the body of a chord.
        delay: countdown and lifetime in seconds of the message that is being made; they run from the join's end.
    """

    def __init__(self) -> None:
        self.parcel: Parcel | None = None
        self.waits_for: str | None = None
        self.delay: dict[str, float] = {}
        self._is_group = False
        self._chords: dict[str, Chord] = {}

    @contextmanager
    def batch(self) -> Iterator[Parcel]:
        """Everything that is sent within goes into one parcel."""
        parcel = self.parcel = Parcel()
        try:
            yield parcel
        finally:
            self.parcel = None
            # A header that could not be sent leaves its body here.
            self._chords.clear()

    @contextmanager
    def body(self, group_id: str, shape: list[Any] | None, *, is_group: bool = False) -> Iterator[None]:
        """What is sent within is the body of a chord, and waits for its header."""
        if self.parcel is None and self.waits_for is None:
            self._chords.clear()
        before = self.parcel, self.waits_for, self._is_group
        self._is_group = is_group
        packed = self.parcel = Parcel()
        self.waits_for = group_id
        try:
            yield
        finally:
            self.parcel, self.waits_for, self._is_group = before
        self._chords[group_id] = Chord(group_id, packed, shape)

    def header(self, group_id: str, size: int) -> None:
        """Celery counts a header that is in the open parcel.

        It also counts groups that are no header of their own, under the id of the chord that they are a part of:
        always fewer than the whole header.
        """
        chord = self._chords.get(group_id)
        if chord is None or self.parcel is None:
            return
        if chord.size == 0:
            self.parcel.chords.append(chord)
        chord.size = max(chord.size, size)

    def add(self, command: SubmitJob) -> None:
        """Put a job into the open parcel."""
        assert self.parcel is not None
        delay, self.delay = self.delay, {}
        if self.waits_for is not None:
            canvas = {**(command.canvas or {}), **delay}
            if command.run_at is not None:
                canvas["run_at"] = command.run_at
            if self._is_group:
                canvas["group_body"] = True
            command = replace(command, waits_for=self.waits_for, run_at=None, canvas=canvas or None)
        self.parcel.commands.append(command)


def shape_of(results: Any) -> list[Any] | None:
    """Ids of a header's results as nested lists; None where they are plain, or come one by one."""
    if not isinstance(results, list):
        return None
    shape = [_ids(one) for one in results]
    return shape if any(isinstance(one, list) for one in shape) else None


def _ids(result: Any) -> Any:
    inner = getattr(result, "results", None)
    return str(result.id) if inner is None else [_ids(one) for one in inner]


@contextmanager
def trail_kept(app: Celery) -> Iterator[None]:
    """The running task's children are as before: a body is sent by what it waits for, not by who made the chord."""
    task: Any = app.current_worker_task
    children = None if task is None else task.request.children
    count = len(children or ())
    try:
        yield
    finally:
        if children is not None:
            del children[count:]

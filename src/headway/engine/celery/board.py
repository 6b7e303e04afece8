"""What the children of one worker run, in memory that they share with its main process.

A child writes down the attempt that it runs, the main process the wish that it stops. Neither waits for the other, so a
child whose C extension never lets go of the interpreter can still be beaten for, asked and killed.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from typing import Final, get_args

from headway.engine.embedded.attempt import StopReason

CAPACITY: Final = 1024
"""How many children one worker may have."""

# pid, turn, fence, monotonic time at which its time is over (0 is never), phase, length of the job's id
_RUNS: Final = struct.Struct("<qqqdbxH")
# The turn that is to stop, and why. Written by the main process alone.
_STOP: Final = struct.Struct("<qq")
_TURN: Final = struct.Struct("<q")
_TURN_AT: Final = 8
_PHASE_AT: Final = 32
_STOP_AT: Final = 40
_ID_AT: Final = 64
# An id has at most 255 characters, of four bytes at most.
_SIZE: Final = _ID_AT + 1024
_NOTHING, _BODY, _ENDED = range(3)
_REASONS: Final[tuple[StopReason, ...]] = get_args(StopReason)


@dataclass(frozen=True, slots=True)
class Running:
    """An attempt that a child runs.

    Attributes:
        place: the child's place.
        pid: of the child.
        turn: counts the attempts of this place: with it a wish is meant for one attempt.
        job_id, fence: of the attempt.
        deadline: monotonic seconds at which its time is over; 0 is never.
        ended: its body has returned, and its end is being recorded.
    """

    place: int
    pid: int
    turn: int
    job_id: str
    fence: int
    deadline: float
    ended: bool


class Board:
    """One worker's shared memory; made before its children are forked."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, (CAPACITY + 1) * _SIZE)

    # By a child, for its own place

    def begin(self, place: int, pid: int, job_id: str, fence: int, deadline: float) -> int:
        """Write down an attempt; its turn."""
        memory, start = self._memory, place * _SIZE
        turn = abs(self._turn(place)) + 1
        # What is half written must not be taken for the attempt before: the turn is the last to be right.
        _TURN.pack_into(memory, start + _TURN_AT, -turn)
        name = job_id.encode()
        memory[start + _ID_AT : start + _ID_AT + len(name)] = name
        _RUNS.pack_into(memory, start, pid, -turn, fence, deadline, _BODY, len(name))
        _TURN.pack_into(memory, start + _TURN_AT, turn)
        return turn

    def body_ended(self, place: int) -> None:
        """Nothing is to be stopped any more; the end is being recorded."""
        self._memory[place * _SIZE + _PHASE_AT] = _ENDED

    def end(self, place: int) -> None:
        """The child runs nothing now."""
        self._memory[place * _SIZE + _PHASE_AT] = _NOTHING

    def stop_reason(self, place: int, turn: int) -> StopReason | None:
        """Why this attempt should stop; None while it should not."""
        stopped, reason = _STOP.unpack_from(self._memory, place * _SIZE + _STOP_AT)
        return _REASONS[reason] if stopped == turn else None

    # By the main process

    def running(self, places: int) -> list[Running]:
        """What the first so many places run."""
        found = []
        for place in range(min(places, CAPACITY)):
            start = place * _SIZE
            pid, turn, fence, deadline, phase, length = _RUNS.unpack_from(self._memory, start)
            if phase == _NOTHING or turn <= 0:
                continue
            name = self._memory[start + _ID_AT : start + _ID_AT + length]
            if self._turn(place) == turn:
                found.append(Running(place, pid, turn, name.decode(), fence, deadline, phase == _ENDED))
        return found

    def ask_to_stop(self, run: Running, reason: StopReason) -> None:
        """Let ``cancelled()`` be true for this attempt; the first reason stays."""
        if self.stop_reason(run.place, run.turn) is None:
            _STOP.pack_into(self._memory, run.place * _SIZE + _STOP_AT, run.turn, _REASONS.index(reason))

    def in_body(self, run: Running) -> bool:
        """Whether the child runs the body of this very attempt at this moment."""
        start = run.place * _SIZE
        pid, turn, _, _, phase, _ = _RUNS.unpack_from(self._memory, start)
        return (pid, turn, phase) == (run.pid, run.turn, _BODY)

    def forget(self, run: Running) -> None:
        """The child that ran this attempt is dead, and what became of the attempt is known."""
        if self._turn(run.place) == run.turn:
            self.end(run.place)

    @property
    def draining(self) -> bool:
        """Whether the worker begins nothing more."""
        return bool(self._memory[CAPACITY * _SIZE])

    def drain(self) -> None:
        """The worker begins nothing more."""
        self._memory[CAPACITY * _SIZE] = 1

    def _turn(self, place: int) -> int:
        (turn,) = _TURN.unpack_from(self._memory, place * _SIZE + _TURN_AT)
        return int(turn)

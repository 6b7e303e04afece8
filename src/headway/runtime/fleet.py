"""The supervisor of several processes: starts again what dies, replaces one at a time, drains them all at the end.

One thread and one loop: a child that dies with the thread that started it (as Linux has it) must not lose it early.
"""

from __future__ import annotations

import os
import selectors
import signal
import time
from collections.abc import Callable, Generator, Sequence
from types import FrameType
from typing import Any, Final

import structlog

from headway.runtime.control import ControlServer, Request
from headway.runtime.member import Instance, Member, ProcessSpec
from headway.runtime.rotated import RotatedOutput

log = structlog.get_logger("headway.fleet")

_BUSY_TICK: Final = 0.1
_IDLE_TICK: Final = 5.0
Steps = Generator[None, None, bool]
Say = Callable[[str], None]


class Fleet:
    """Keeps processes running until it is asked to end.

    Args:
        specs: what runs; names are unique.
        output: makes the log of one of them.
        control: where requests come from; None: only signals.
        changed: called with all processes that live, whenever these change.
        facts: of the whole, for its status.
    """

    def __init__(
        self,
        specs: Sequence[ProcessSpec],
        output: Callable[[ProcessSpec], RotatedOutput],
        *,
        control: ControlServer | None = None,
        changed: Callable[[list[dict[str, Any]]], None] | None = None,
        facts: dict[str, Any] | None = None,
    ) -> None:
        self._members = {spec.name: Member(spec, output(spec)) for spec in specs}
        self._selector = selectors.DefaultSelector()
        self._control = control
        self._changed = changed or (lambda _: None)
        self._facts = facts or {}
        self._began = time.monotonic()
        self._task: Steps | None = None
        self._task_request: Request | None = None
        self._ending = False
        self._waits_for_end: list[Request] = []

    def run(self) -> int:
        """Start everything and look after it until a signal or a request asks to end; the exit code."""
        reader, writer = os.pipe()
        for end in (reader, writer):
            os.set_blocking(end, False)
        numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
        previous = {number: signal.signal(number, self._on_signal) for number in numbers}
        waker = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        self._selector.register(reader, selectors.EVENT_READ, lambda: os.read(reader, 4096))
        if self._control is not None:
            self._control.join(self._selector, self._on_request)
        try:
            for member in self._members.values():
                self._start(member)
            while not self._done():
                self._turn()
        finally:
            for member in self._members.values():
                for one in member.instances:
                    one.kill()
            signal.set_wakeup_fd(waker)
            for number, handler in previous.items():
                signal.signal(number, handler)
            self._selector.close()
            os.close(reader)
            os.close(writer)
        for request in self._waits_for_end:
            request.done(True)
        if self._control is not None:
            self._control.close()
        return 0

    # ------------------------------------------------------------------------------------------------ the loop

    def _turn(self) -> None:
        for key, _ in self._selector.select(self._tick_seconds()):
            key.data()
        for member in self._members.values():
            for one in member.instances:
                one.tick()
                if one.reap():
                    self._ended(member, one)
            if member.wanted and member.current is None and time.monotonic() >= member.next_start:
                member.restarts += 1
                self._start(member)
        if self._task is not None:
            self._step(self._task)
        if self._control is not None:
            self._control.flush()

    def _tick_seconds(self) -> float:
        if self._task is not None or any(one.kill_at for m in self._members.values() for one in m.instances):
            return _BUSY_TICK
        waiting = [m.next_start for m in self._members.values() if m.wanted and m.current is None]
        return max(0.0, min([_IDLE_TICK, *(at - time.monotonic() for at in waiting)]))

    def _step(self, task: Steps) -> None:
        try:
            next(task)
        except StopIteration as end:
            self._task = None
            request, self._task_request = self._task_request, None
            if request is not None:
                request.done(bool(end.value))

    def _done(self) -> bool:
        return self._ending and self._task is None

    def _start(self, member: Member, *, successor: bool = False) -> Instance | None:
        try:
            one = member.start_successor() if successor else member.start()
        except OSError as error:
            # No memory, no such program: tried again with the longest patience, and told.
            member.output.write(f"headway: it cannot be started: {error}")
            member.last_exit = f"not started: {error.strerror}"
            member.unready_exits += 1
            member.next_start = time.monotonic() + _IDLE_TICK
            log.error("process.not_started", name=member.spec.name, error=str(error))  # noqa: TRY400 - its text says all
            return None
        self._selector.register(one.pipe, selectors.EVENT_READ, lambda: self._heard(one))
        log.info("process.started", name=member.spec.name, pid=one.pid)
        self._tell()
        return one

    def _heard(self, one: Instance) -> None:
        if not one.read():
            # The end of its output is not its end: `reap` sees that.
            self._selector.unregister(one.pipe)

    def _ended(self, member: Member, one: Instance) -> None:
        for key in list(self._selector.get_map().values()):
            if key.fileobj is one.pipe:
                self._selector.unregister(one.pipe)
        unasked = member.ended(one)
        if unasked is None:
            log.info("process.ended", name=member.spec.name, pid=one.pid)
        else:
            log.error("process.died", name=member.spec.name, pid=one.pid, how=unasked)
            member.output.write(f"headway: process {one.pid} died: {unasked}")
        self._tell()

    def _tell(self) -> None:
        self._changed(
            [
                {"name": member.spec.name, "pid": one.pid, "created": one.created}
                for member in self._members.values()
                for one in member.instances
            ]
        )

    # ------------------------------------------------------------------------------------------------ requests

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGCHLD:
            return  # it only wakes the loop
        if self._ending and number == signal.SIGINT:
            for member in self._members.values():
                for one in member.instances:
                    one.kill_at = time.monotonic()
        self._end()

    def _on_request(self, request: Request) -> None:
        what = request.body.get("do")
        if what == "status":
            request.answer(self.status())
        elif what == "stop":
            self._waits_for_end.append(request)
            self._end(request.say)
        elif what == "restart":
            self._restart(request)
        else:
            request.say(f"expected do to be status, stop or restart, got: {what!r}")
            request.done(False)

    def _end(self, say: Say = lambda _: None) -> None:
        if self._ending:
            return
        self._ending = True
        if self._task is not None:
            self._task.close()
            if self._task_request is not None:
                self._task_request.say("the cluster is being stopped")
                self._task_request.done(False)
        self._task, self._task_request = self._drain(say), None

    def _restart(self, request: Request) -> None:
        if self._task is not None:
            request.say("it is being restarted or stopped already")
            request.done(False)
            return
        name = request.body.get("name")
        chosen = [m for m in self._members.values() if name in (None, m.spec.name, m.spec.group)]
        if not chosen:
            known = ", ".join(self._members)
            request.say(f"nothing is called {name!r}; there are: {known}")
            request.done(False)
            return
        self._task_request = request
        self._task = self._roll(sorted(chosen, key=lambda member: member.spec.last), request.say)

    def status(self) -> dict[str, Any]:
        """Everything as it is now, as JSON values."""
        return {
            **self._facts,
            "pid": os.getpid(),
            "uptime_seconds": round(time.monotonic() - self._began, 1),
            "state": "stopping" if self._ending else "running",
            "parts": [member.status() for member in self._members.values()],
        }

    # ------------------------------------------------------------------------------------------------ in steps

    def _drain(self, say: Say) -> Steps:
        """Ask all to end, those that are last after the others, and wait; what does not end is killed."""
        for last in (False, True):
            members = [member for member in self._members.values() if member.spec.last is last]
            leaving = [(member, one) for member in members for one in member.instances]
            for member in members:
                member.wanted = False
            for _, one in leaving:
                one.ask_to_end()
            while leaving:
                for member, one in leaving:
                    if one.exit_code is not None:
                        say(f"{member.spec.name} (process {one.pid}) {'was killed' if one.killed else 'has ended'}")
                leaving = [pair for pair in leaving if pair[1].exit_code is None]
                if leaving:
                    yield
        return True

    def _roll(self, members: Sequence[Member], say: Say) -> Steps:
        """Replace one after the other; the first that does not become ready ends it, and its predecessor stays."""
        for member in members:
            done = yield from self._replace(member, say) if member.spec.beside else self._renew(member, say)
            if not done:
                return False
        return True

    def _replace(self, member: Member, say: Say) -> Steps:
        old = member.current
        new = self._start(member, successor=True)
        if new is None or not (yield from self._ready(member, new)):
            self._tell_why(member, new, say)
            if new is not None and new.exit_code is None:
                new.kill()
            return False
        member.promote()
        while member.predecessor is not None:
            yield
        said = f"process {old.pid} {'was killed' if old.killed else 'has ended'}" if old is not None else "none ran"
        say(f"{member.spec.name}: process {new.pid} is ready, {said}")
        return True

    def _renew(self, member: Member, say: Say) -> Steps:
        old = member.current
        if old is not None:
            # Not wanted meanwhile: nothing else shall start it.
            member.wanted = False
            old.ask_to_end()
            while member.current is not None:
                yield
            member.wanted = True
        new = self._start(member)
        if new is None or not (yield from self._ready(member, new)):
            self._tell_why(member, new, say)
            return False
        say(f"{member.spec.name}: process {new.pid} is ready" + (f", process {old.pid} has ended" if old else ""))
        return True

    def _ready(self, member: Member, one: Instance) -> Steps:
        ends = time.monotonic() + member.spec.ready_seconds
        while not one.ready:
            if one.exit_code is not None or time.monotonic() > ends:
                return False
            yield
        return True

    def _tell_why(self, member: Member, one: Instance | None, say: Say) -> None:
        why = "could not be started" if one is None else "was not ready in time"
        if one is not None and one.exit_code is not None:
            why = f"ended before it was ready ({one.exit_code})"
        stays = "; the one before stays" if member.current is not None and member.current is not one else ""
        say(f"{member.spec.name}: the new process {why}{stays}. It said last:")
        for line in list(member.output.last)[-10:]:
            say(f"    {line}")

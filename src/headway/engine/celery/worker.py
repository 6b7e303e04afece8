"""A managed worker: what Celery's worker is given so that its attempts are recorded, fenced, beaten for and stopped."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

import structlog
from celery import bootsteps, signals
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.concurrency.solo import TaskPool as SoloPool
from celery.concurrency.thread import TaskPool as ThreadPool
from celery.worker import state

from headway.engine.celery.attach import ManagedAttachment, opted_out
from headway.engine.celery.board import CAPACITY, Board
from headway.engine.celery.control import take_over_revoke
from headway.engine.celery.foreign import ForeignEnds
from headway.engine.celery.inprocess import ProcessPlace
from headway.engine.celery.prefork import ChildPlace, PreforkMonitor
from headway.engine.celery.request import take_requests
from headway.engine.celery.runner import Runner, WorkerSettings
from headway.engine.embedded.attach import attachment_of
from headway.engine.embedded.attempt import StopReason
from headway.engine.embedded.spool import Spool, offer_spooled
from headway.engine.embedded.tracer import Tracer
from headway.model.errors import EngineNotAvailable, HeadwayError, StoreUnavailable

if TYPE_CHECKING:
    from celery import Celery

    from headway.ports.clock import Clock
    from headway.ports.workerdoor import WorkerDoor

log = structlog.get_logger("headway.worker")

_POOLS: Final = {PreforkPool: "prefork", ThreadPool: "threads", SoloPool: "solo"}
_LOST_SECONDS: Final = 0.2
# Those of kombu.
_REDIS_STEPS: Final = (0, 3, 6, 9)
_LAST_LOOK_SECONDS: Final = 5.0
EXIT_DRAINED: Final = 0


class WorkerHouse(Protocol):
    """What a worker is built with; made by bootstrap, opened in the process that uses it."""

    @property
    def clock(self) -> Clock:
        """For deadlines and pauses."""
        ...

    def check(self) -> None:
        """Raise a ``HeadwayError`` where workers cannot share the store that the settings name."""
        ...

    def settings(self, hostname: str, facts: dict[str, object]) -> WorkerSettings:
        """The settings of the worker of this node name."""
        ...

    def open(self, worker_id: str, on_cancel: Callable[[], None]) -> WorkerDoor:
        """The door of the main process; ``on_cancel`` is called when somebody asked for a cancel."""
        ...

    def open_child(self, worker_id: str) -> WorkerDoor:
        """The door of a child of that process, called in the child."""
        ...

    def close(self) -> None:
        """Let go of what this process opened."""
        ...


@dataclass(slots=True)
class ManagedWorker:
    """The managed part of one Celery worker.

    Attributes:
        undo: gives the application back what it had before: its process may go on, and run another worker.
    """

    app: Celery
    house: WorkerHouse
    settings: WorkerSettings
    pool: str
    watcher: PreforkMonitor | ProcessPlace
    door: WorkerDoor
    runner: Runner | None
    undo: Callable[[], None]
    left: bool = False

    def stop_now(self, job_ids: list[str], reason: StopReason = "cancel") -> None:
        """Stop these at once, if they run here: children are killed, threads asked."""
        if isinstance(self.watcher, PreforkMonitor):
            self.watcher.stop_now(job_ids, reason)
        else:
            self.watcher.stop_now(job_ids)

    def start(self) -> None:
        """Say who this is, offer what an earlier process could not tell, and begin to look."""
        self.door.arrive(self.settings.facts)
        try:
            offer_spooled(Spool(self.settings.spool_dir), self.door)
        except StoreUnavailable as error:
            log.warning("worker.spool_waits", code=error.code)
        self.watcher.start()
        log.info("worker.ready", worker=self.settings.worker_id, pool=self.pool)

    def leave(self) -> None:
        """Everything here has ended, or was given back."""
        if self.left:
            return
        self.left = True
        self.watcher.stop()
        try:
            self.door.leave()
        except HeadwayError as error:
            log.warning("worker.leave_failed", code=error.code)
        self.undo()
        self.house.close()


class WorkerStep(bootsteps.StartStopStep):
    """Makes a worker of an attached application a managed one."""

    def __init__(self, worker: Any, **options: Any) -> None:
        self._worker: ManagedWorker | None = None
        self._drains = False
        found = attachment_of(worker.app)
        house = getattr(found, "house", None)
        if not isinstance(found, ManagedAttachment) or house is None:
            return
        try:
            self._worker = _build(found, house, worker)
        except HeadwayError as error:
            # In a bootstep anything else would be told as a fault of Celery's, with a traceback.
            sys.exit(f"error [{error.code}]: {error.message}\nhint: {error.hint}")
        found.worker = self._worker
        signals.worker_shutdown.connect(self._leave, sender=worker, weak=False)

    def start(self, parent: Any) -> None:
        """See ``StartStopStep.start``."""
        if self._worker is not None:
            self._worker.start()

    def close(self, parent: Any) -> None:
        """The worker was asked to end: attempts get the time of the drain."""
        worker = self._worker
        if worker is None or self._drains:
            return
        self._drains = True
        worker.watcher.drain()
        seconds = worker.settings.drain_seconds
        if isinstance(worker.watcher, ProcessPlace) and seconds is not None:
            threading.Thread(target=self._drain_process, args=(seconds,), name="headway-drain", daemon=True).start()

    def terminate(self, parent: Any) -> None:
        """The worker ends at once: what runs is given back."""
        worker = self._worker
        if worker is None:
            return
        worker.watcher.drain()
        worker.watcher.interrupt()
        ends = worker.house.clock.monotonic() + _LAST_LOOK_SECONDS
        while worker.watcher.busy and worker.house.clock.monotonic() < ends:
            worker.house.clock.sleep(0.02)
        worker.leave()

    def stop(self, parent: Any) -> None:
        """Nothing: the pool may still run attempts, and they need their beats."""

    def _leave(self, **_: Any) -> None:
        if self._worker is not None:
            self._worker.leave()

    def _drain_process(self, seconds: float) -> None:
        """A thread cannot be killed: its attempt is given back, and the process ends without it."""
        worker = self._worker
        assert worker is not None
        ends = worker.house.clock.monotonic() + seconds
        while worker.watcher.busy and worker.house.clock.monotonic() < ends:
            worker.house.clock.sleep(0.05)
        if not worker.watcher.busy:
            return
        worker.watcher.interrupt()
        worker.leave()
        sys.stderr.flush()
        os._exit(EXIT_DRAINED)


class ConsumerStep(bootsteps.StartStopStep):
    """After Celery has built its tracers, whenever it does: ours go in front of them."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        self._app = consumer.app

    def start(self, parent: Any) -> None:
        """See ``StartStopStep.start``."""
        worker = getattr(attachment_of(self._app), "worker", None)
        if worker is not None and worker.runner is not None:
            worker.runner.take_over()


def _build(attachment: ManagedAttachment, house: WorkerHouse, worker: Any) -> ManagedWorker:
    app: Any = attachment.app
    pool = _POOLS.get(worker.pool_cls)
    if pool is None:
        name = f"{worker.pool_cls.__module__}.{worker.pool_cls.__qualname__}"
        raise EngineNotAvailable(
            f"managed workers run with the pools prefork, threads and solo, not with {name}: of other pools the main "
            "process cannot tell which attempt runs where, so none could be stopped or given a lease",
            hint="Start the worker with --pool prefork, threads or solo; or leave Headway out of it: it observes any pool.",
        )
    house.check()
    # A shared task: it becomes one of this application too, so that every queue can be asked.
    importlib.import_module("headway.engine.builtin")
    take_over_revoke()
    concurrency = int(worker.concurrency) if pool != "solo" else 1
    facts = {"slots": concurrency, "pool": pool, "queues": sorted(app.amqp.queues.consume_from), "kind": "celery"}
    settings = house.settings(worker.hostname, dict(facts))
    _adapt(worker, app)
    board = Board() if pool == "prefork" else None
    managed: ManagedWorker | None = None

    def look_now() -> None:
        if managed is not None:
            managed.watcher.look_now()

    sender = attachment.door()
    door = house.open(settings.worker_id, look_now)
    attachment.use(door)
    tracer = Tracer(attachment.app, worker.hostname)
    spool = Spool(settings.spool_dir)
    in_child: Callable[..., None] | None = None
    if board is not None:
        in_child = _prepare_children(attachment, house, settings, board, worker.hostname)
        watcher: PreforkMonitor | ProcessPlace = PreforkMonitor(
            board, door, tracer, house.clock, settings, places=lambda: CAPACITY if worker.autoscale else concurrency,
            reserved=lambda: [request.id for request in list(state.reserved_requests)], foreign=ForeignEnds(attachment),
        )  # fmt: skip
        runner = None
    else:

        def exhausted() -> None:
            log.error("worker.exhausted", then="the worker ends")
            os.kill(os.getpid(), 15)

        watcher = ProcessPlace(door, spool, house.clock, settings, concurrency, exhausted)
        runner = Runner(attachment, door, tracer, watcher, spool, house.clock)

    def undo() -> None:
        attachment.use(sender)
        attachment.worker = None
        if in_child is not None:
            signals.worker_process_init.disconnect(in_child)

    managed = ManagedWorker(attachment.app, house, settings, pool, watcher, door, runner, undo)
    return managed


class _HighestFirst(list[int]):
    """Steps of priority on Redis, gone through from the highest; kombu finds a message's step by their order."""

    def __iter__(self) -> Iterator[int]:
        return reversed(list.copy(self))


def _adapt(worker: Any, app: Any) -> None:
    """The settings that managed attempts need; everything else is the application's."""
    with app.connection_for_read() as connection:
        if connection.transport.driver_type == "redis":
            # Celery takes 0 first there, and 9 first on RabbitMQ. A job's 9 is first everywhere.
            options = dict(app.conf.broker_transport_options or {})
            options["priority_steps"] = _HighestFirst(sorted(options.get("priority_steps") or _REDIS_STEPS))
            app.conf.broker_transport_options = options
    # A dead child's attempt is looked after by ourselves; the pool need not keep its message for ten seconds.
    worker.worker_lost_wait = _LOST_SECONDS
    if "worker_prefetch_multiplier" not in app.conf.changes:
        # Long work: what one worker has taken no other can run.
        worker.prefetch_multiplier = 1
    for task in app.tasks.values():
        if opted_out(task):
            continue
        take_requests(task)
        # What runs twice is told apart by its fence, so a message may stay until its attempt has ended.
        task.acks_late, task.acks_on_failure_or_timeout, task.reject_on_worker_lost = True, True, False


def _prepare_children(
    attachment: ManagedAttachment, house: WorkerHouse, settings: WorkerSettings, board: Board, hostname: str
) -> Callable[..., None]:
    parent = os.getpid()

    def in_child(**_: Any) -> None:
        if os.getpid() == parent:
            return
        try:
            door = house.open_child(settings.worker_id)
            attachment.use(door)
            place = ChildPlace(board, door, house.clock)
            tracer = Tracer(attachment.app, hostname)
            Runner(attachment, door, tracer, place, Spool(settings.spool_dir), house.clock).take_over()
        except BaseException:
            # Celery would log it and run tasks without a record.
            log.exception("worker.child_refused")
            os._exit(1)

    signals.worker_process_init.connect(in_child, weak=False)
    return in_child

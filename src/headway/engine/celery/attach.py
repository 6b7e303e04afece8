"""A Celery application whose sends are recorded, and which keeps its broker.

What differs from an application of the embedded engine: its connections stay as they are, because its workers and its
remote control need them; nothing of its configuration is read before the application itself reads it; tasks may opt out.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import structlog
from celery import Celery
from kombu import Connection
from kombu.exceptions import OperationalError
from kombu.utils.imports import symbol_by_name
from kombu.utils.objects import cached_property

from headway.engine.celery.foreign import mark_of, mark_of_request
from headway.engine.current import _current
from headway.engine.embedded.attach import Attachment, RecordingAMQP, attachment_of, real_app
from headway.engine.embedded.attempt import RunningAttempt
from headway.engine.embedded.backend import HeadwayBackend
from headway.model.errors import JobNotFound, TransitionConflict

if TYPE_CHECKING:
    from headway.engine.celery.worker import ManagedWorker, WorkerHouse
    from headway.ports.jobdoor import JobDoor

log = structlog.get_logger("headway.attach")
# What Celery puts before the routing key of a message that RabbitMQ delays by itself.
_DELAYED = "celery_delayed_"
_CONNECT_SECONDS = 2


def attach_managed(app: Any, door: JobDoor | Callable[[], JobDoor]) -> ManagedAttachment:
    """Make what this application sends recorded jobs, which managed workers run.

    Nothing is opened or read now: the application may be configured afterwards.

    Args:
        app: a Celery application, or Celery's proxy of the current one.
        door: where jobs go; a callable is asked once, at the first use.
    """
    real = real_app(app)
    found = attachment_of(real)
    if isinstance(found, ManagedAttachment):
        found.use(door)
        return found
    return ManagedAttachment(real, door)


def opted_out(task: Any) -> bool:
    """Whether a task said ``headway=False``: it is sent and run as if Headway were not there."""
    return getattr(task, "headway", None) is False


class ManagedAttachment(Attachment):
    """One application bound to one door, with its broker.

    Attributes:
        house: what a worker of this application is built with; None where it only sends.
        worker: the managed worker that runs in this process.
    """

    house: WorkerHouse | None = None
    worker: ManagedWorker | None = None

    def __init__(self, app: Celery, door: JobDoor | Callable[[], JobDoor]) -> None:
        self.app = app
        self._door = door
        self._cancel = None
        self._threads = threading.local()
        self._door_lock = threading.Lock()
        self._replace_parts()

    @cached_property
    def backend(self) -> HeadwayBackend:
        """The result backend over the door."""
        return ManagedBackend(self.app, self.door)

    @cached_property
    def own_backend(self) -> Any:
        """The result backend that the application names, for tasks that opted out."""
        return Celery._get_backend(self.app)  # type: ignore[attr-defined]  # noqa: SLF001

    @contextmanager
    def unrecorded(self) -> Iterator[None]:
        """Inside it, what this thread runs and sends is as if Headway were not there."""
        self._threads.unrecorded = True
        try:
            yield
        finally:
            self._threads.unrecorded = False

    @property
    def runs_unrecorded(self) -> bool:
        """Whether this thread runs what could not be recorded."""
        return getattr(self._threads, "unrecorded", False)

    @contextmanager
    def telling(self, mark: Mapping[str, Any]) -> Iterator[None]:
        """Inside it, what this thread sends is waited for by a producer that is not attached."""
        self._threads.mark = mark
        try:
            yield
        finally:
            self._threads.mark = None

    @property
    def tells(self) -> bool:
        """Whether this thread tells of a foreign job's end."""
        return getattr(self._threads, "mark", None) is not None

    def external(self) -> Mapping[str, Any] | None:
        """See ``Attachment.external``: what a foreign job sends is waited for where that job is."""
        told: Mapping[str, Any] | None = getattr(self._threads, "mark", None)
        if told is not None:
            return told
        run = _current.get()
        if isinstance(run, RunningAttempt):
            return mark_of(run.begun)
        task: Any = self.app.current_worker_task
        if task is None or not opted_out(task):
            return None
        # Who sent it is not known, and what follows it may be waited for there.
        return mark_of_request(vars(task.request))

    def use(self, door: JobDoor | Callable[[], JobDoor]) -> None:
        """Let jobs go through another door from now on."""
        self._door = door

    def _replace_parts(self) -> None:
        app: Any = self.app
        app._headway = self  # noqa: SLF001 - our own name on their object, read by `attachment_of`
        # Each by the hook that Celery asks when the part is first needed; where it was needed already, the part itself.
        app.amqp_cls = _mixed(ManagedAMQP, app.amqp_cls)
        app.control_cls = _mixed(_ManagedControl, app.control_cls)
        for name, kind in (("amqp", ManagedAMQP), ("control", _ManagedControl)):
            part = app.__dict__.get(name)
            if part is not None and not isinstance(part, kind):
                part.__class__ = type(kind.__name__, (kind, type(part)), {})
                for cached in ("send_task_message", "create_task_message"):
                    part.__dict__.pop(cached, None)
        app._get_backend = lambda: self.backend  # noqa: SLF001
        app._backend_cache = None  # noqa: SLF001
        app._local.__dict__.pop("backend", None)  # noqa: SLF001
        app.connection_for_write = self._purging_connection
        app.producer_or_acquire = app.default_producer = self._sending
        app.steps["worker"].add("headway.engine.celery.worker:WorkerStep")
        app.steps["consumer"].add("headway.engine.celery.worker:ConsumerStep")
        app.on_after_finalize.connect(self._settle_tasks, weak=False)
        app.on_after_configure.connect(self._look_at_settings, weak=False)
        if app.finalized:
            self._settle_tasks()
        if app.configured:
            self._look_at_settings()

    def _settle_tasks(self, **_: Any) -> None:
        tasks: dict[str, Any] = self.app.tasks
        for task in tasks.values():
            # Tasks remember the backend that they were first asked for.
            task.backend = self.own_backend if opted_out(task) else None

    def _look_at_settings(self, **_: Any) -> None:
        if self.app.conf.task_always_eager:
            log.warning("attach.eager", app=self.app.main, then="tasks run inside their caller and are not recorded")

    def _purging_connection(self, *args: Any, **options: Any) -> Any:
        # `celery purge` asks for nothing but a connection, and takes it to the queues itself.
        made: Any = Celery.connection_for_write(self.app, *args, **options)
        if type(made) is Connection:
            made.__class__ = PurgingConnection
            cast("Any", made).headway = self
        return made

    def revoke(self, ids: list[str]) -> list[str]:
        """Cancel those of the ids that are jobs, and return the others."""
        others = []
        for job_id in ids:
            cancel: Any = getattr(self.door(), "cancel", None)
            try:
                if cancel is None:
                    others.append(job_id)
                else:
                    cancel(job_id, "revoked")
            except JobNotFound:
                others.append(job_id)
            except TransitionConflict:
                # It has ended; Celery says nothing then.
                continue
        return others

    def purge(self, queues: Iterable[str]) -> int:
        """Cancel the jobs that are queued there; how many."""
        door: Any = self.door()
        counts: list[int] = [door.purge(queue) for queue in queues]
        return sum(counts)


def _mixed(kind: type[Any], named: Any) -> type[Any]:
    """Our class in front of the one that the application names, by a text or by the class itself."""
    base: type[Any] = symbol_by_name(named)
    return base if issubclass(base, kind) else type(kind.__name__, (kind, base), {})


class PurgingConnection(Connection):
    """A connection whose own channel, when it empties a queue, cancels the jobs that are queued there.

    Otherwise their messages would be missed, and sent again. Connections of a pool, which applications share, are plain.
    """

    headway: ManagedAttachment | None = None

    @property
    def default_channel(self) -> Any:
        """The connection's own channel."""
        channel: Any = super().default_channel
        attachment = self.headway
        if attachment is not None and "queue_purge" not in channel.__dict__:
            plain = channel.queue_purge

            def purge(queue: str, *args: Any, **options: Any) -> int:
                # First: no relay sends them while the queue is emptied.
                cancelled = attachment.purge([queue])
                messages: int = plain(queue, *args, **options) or 0
                return max(cancelled, messages)

            channel.queue_purge = purge
        return channel

    def clone(self, **options: Any) -> Connection:
        """One to the same broker, for a pool."""
        return Connection(**{**self._info(resolve=False), **options})


class ManagedAMQP(RecordingAMQP):
    """Records what is sent; ``publish_task`` is the way to the broker, for the relay and for tasks that opted out."""

    @property
    def headway(self) -> ManagedAttachment:  # type: ignore[override]
        """The attachment of its application."""
        found = attachment_of(self.app)
        assert isinstance(found, ManagedAttachment)
        return found

    def send_task_message(
        self,
        producer: Any,
        name: str,
        message: Any,
        exchange: Any = None,
        routing_key: Any = None,
        queue: Any = None,
        headers: dict[str, Any] | None = None,
        **options: Any,
    ) -> None:
        """Record the message, unless its task opted out."""
        options |= {"exchange": exchange, "routing_key": routing_key, "queue": queue, "headers": headers}
        task = self.app.tasks.get(name)
        if self._goes_out(name):
            if task is not None and opted_out(task):
                # It may have been registered after the others were settled.
                task.backend = self.headway.own_backend
            with Celery.producer_or_acquire(self.app, None) as real:
                self.publish_task(real, name, message, **options)
            return
        if str(getattr(exchange, "name", exchange) or "").startswith(_DELAYED):
            # For an eta on a quorum queue Celery chose RabbitMQ's own delay. Ours is a due row: the queue is meant.
            options["exchange"] = None
            options["routing_key"] = str(routing_key).lstrip("01.")
        super().send_task_message(producer, name, message, **options)

    @cached_property
    def publish_task(self) -> Callable[..., Any]:
        """Celery's own way of sending a task message."""
        inherited: Any = self
        sender: Callable[..., Any] = inherited._create_task_sender()  # noqa: SLF001 - of the base class, not in its types
        return sender

    @property
    def create_task_message(self) -> Any:
        """What builds a message: the texts of its arguments only where it goes to a broker."""
        return self._create

    def _goes_out(self, name: str) -> bool:
        task = self.app.tasks.get(name)
        return self.headway.runs_unrecorded or (task is not None and opted_out(task))

    def _create(self, task_id: str, name: str, *args: Any, **options: Any) -> Any:
        if self._goes_out(name):
            return self.as_task_v2(task_id, name, *args, **options)
        recorded: Any = super().create_task_message
        return recorded(task_id, name, *args, **options)


class ManagedBackend(HeadwayBackend):
    """What a task that could not be recorded says goes to the application's own backend."""

    def _instead(self, *, writing: bool = True) -> Any:
        attachment = self._attachment()
        # The end of a foreign chord that failed is written by Celery to the backend of the body's task.
        own = attachment.runs_unrecorded or (writing and attachment.tells)
        return attachment.own_backend if own else super()

    def mark_as_done(self, *args: Any, **options: Any) -> None:
        """See ``HeadwayBackend.mark_as_done``."""
        self._instead().mark_as_done(*args, **options)

    def mark_as_failure(self, *args: Any, **options: Any) -> None:
        """See ``HeadwayBackend.mark_as_failure``."""
        self._instead().mark_as_failure(*args, **options)

    def mark_as_retry(self, *args: Any, **options: Any) -> None:
        """See ``HeadwayBackend.mark_as_retry``."""
        self._instead().mark_as_retry(*args, **options)

    def store_result(self, *args: Any, **options: Any) -> Any:
        """See ``HeadwayBackend.store_result``."""
        return self._instead().store_result(*args, **options)

    def apply_chord(self, *args: Any, **options: Any) -> Any:
        """See ``HeadwayBackend.apply_chord``."""
        return self._instead(writing=False).apply_chord(*args, **options)

    def set_chord_size(self, *args: Any, **options: Any) -> Any:
        """See ``HeadwayBackend.set_chord_size``."""
        return self._instead(writing=False).set_chord_size(*args, **options)

    def add_to_chord(self, chord_id: Any, result: Any) -> Any:
        """See ``HeadwayBackend.add_to_chord``; a chord of a producer that is not attached is counted where it is."""
        attachment = self._attachment()
        mark = attachment.external()
        if mark is not None and str(chord_id) in mark["groups"]:
            return attachment.own_backend.add_to_chord(chord_id, result)
        return self._instead(writing=False).add_to_chord(chord_id, result)


class _ManagedControl:
    """Mixed in front of the application's control: revoking a job cancels it, and so does purging its queue."""

    app: Celery

    def purge(self, connection: Any = None) -> int:
        """Cancel the queued jobs of the application's queues, and empty these; how many were discarded."""
        found = attachment_of(self.app)
        assert isinstance(found, ManagedAttachment)
        queues: Any = self.app.amqp.queues.consume_from
        # Jobs first: no relay sends them while the queues are emptied. A job without a message counts, and a message
        # without a job.
        cancelled = found.purge(queues)
        inherited: Any = super()
        messages: int = inherited.purge(connection)
        return max(cancelled, messages)

    discard_all = purge

    def revoke(self, task_id: Any, destination: Any = None, terminate: bool = False, **options: Any) -> Any:
        """Cancel jobs; ids that are none are revoked as ever. ``terminate`` stops a running one at once."""
        found = attachment_of(self.app)
        assert isinstance(found, ManagedAttachment)
        ids = [str(one) for one in (task_id if isinstance(task_id, list | tuple | set) else [task_id])]
        others = found.revoke(ids)
        mine = [one for one in ids if one not in others]
        inherited: Any = super()
        if terminate and mine:
            self._stop_now(mine, destination)
        if not others:
            return None
        given = others if isinstance(task_id, list | tuple | set) else others[0]
        return inherited.revoke(given, destination=destination, terminate=terminate, **options)

    def _stop_now(self, job_ids: list[str], destination: Any) -> None:
        control: Any = self
        try:
            # By a connection of its own, which is asked first: Celery's broadcast waits for ever where a broker is away.
            with self.app.connection_for_write(connect_timeout=_CONNECT_SECONDS) as connection:
                connection.ensure_connection(max_retries=1, timeout=_CONNECT_SECONDS)
                mailbox = control.mailbox(connection)
                mailbox.producer_pool = None
                mailbox._broadcast("headway_stop", {"job_ids": job_ids}, destination=destination)  # noqa: SLF001
        except OperationalError as error:
            # The cancel is recorded: the worker hears of it with its next beat, and kills after the grace time.
            log.warning("revoke.not_at_once", jobs=job_ids, error=str(error))

    def terminate(self, task_id: Any, destination: Any = None, signal: str = "SIGTERM", **options: Any) -> Any:
        """``revoke`` with ``terminate``."""
        return self.revoke(task_id, destination=destination, terminate=True, signal=signal, **options)

"""A Celery application that records instead of dialling a broker.

Everything is set on the one instance: other applications in the process, and Celery itself, stay as they are.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from celery import signals
from celery.app.amqp import AMQP

from headway.engine.current import _current
from headway.engine.embedded.attempt import RunningAttempt
from headway.engine.embedded.backend import HeadwayBackend
from headway.engine.embedded.parcels import Parcel, Sending, shape_of, trail_kept
from headway.engine.embedded.sends import command_from_message, resend_of
from headway.engine.errors import BrokerNotUsed
from headway.model.canvas import results_of
from headway.model.errors import EagerModeRefused, JobNotFound, TransitionConflict

if TYPE_CHECKING:
    from celery import Celery

    from headway.model.commands import SubmitJob
    from headway.ports.jobdoor import JobDoor

Cancel = Callable[[str], object]


def attach(app: Celery, door: JobDoor | Callable[[], JobDoor], *, cancel: Cancel | None = None) -> Attachment:
    """Make ``delay``, ``apply_async``, ``send_task``, chains and groups of this application jobs of the door.

    Attaching again replaces the door. The application becomes Celery's default one, so that ``shared_task`` finds it
    in every thread.

    Args:
        app: a Celery application, or Celery's proxy of the current one.
        door: where jobs go; a callable is asked once, at the first use.
        cancel: what ``AsyncResult.revoke()`` does, given a job id; the door's own ``cancel`` when None.

    Raises:
        EagerModeRefused: the application runs its tasks inline, so nothing would reach a door.
    """
    # Celery's proxies pass attributes on, but `__dict__` and classes must be the real ones.
    real = real_app(app)
    if real.conf.task_always_eager:
        raise EagerModeRefused(
            "The Celery application has task_always_eager set, so its tasks would run inside the caller, unrecorded."
        )
    return Attachment(real, door, cancel)


def real_app(app: Any) -> Celery:
    """The application itself, where Celery's proxy of the current one was given."""
    found: Celery = app._get_current_object() if hasattr(app, "_get_current_object") else app  # noqa: SLF001
    return found


class Attachment:
    """One application bound to one door; made by ``attach``.

    Attributes:
        app: the application.
        backend: its result backend, over the door.
        amqp_class: mixed in front of the application's own.
    """

    amqp_class: type[RecordingAMQP]

    def __init__(self, app: Celery, door: JobDoor | Callable[[], JobDoor], cancel: Cancel | None) -> None:
        self.app = app
        self._door = door
        self._cancel = cancel
        self._threads = threading.local()
        self._door_lock = threading.Lock()
        self.backend = HeadwayBackend(app, self.door)
        self._replace_parts()

    def door(self) -> JobDoor:
        """The door, opened now if it was given as a callable."""
        door = self._door
        if callable(door):
            with self._door_lock:
                door = self._door
                if callable(door):
                    door = door()
                    self._door = door
        return door

    def _replace_parts(self) -> None:
        app: Any = self.app
        app._headway = self  # noqa: SLF001 - our own name on their object, read by `attachment_of`
        amqp = app.amqp
        if not isinstance(amqp, self.amqp_class):
            amqp.__class__ = type(self.amqp_class.__name__.strip("_"), (self.amqp_class, type(amqp)), {})
        for cached in ("send_task_message", "create_task_message"):
            amqp.__dict__.pop(cached, None)
        amqp.headway = self
        # Celery keeps a thread-safe backend in one place and others per thread; ours is the former.
        app._backend_cache = self.backend  # noqa: SLF001
        for task in app.tasks.values():
            task.backend = None
        app.producer_or_acquire = app.default_producer = self._sending
        app.control.revoke = self._revoke
        self._replace_connections()

    def _replace_connections(self) -> None:
        """Refuse every way to a broker, and be the application of every thread."""
        app: Any = self.app
        for name in ("connection", "connection_for_read", "connection_for_write"):
            setattr(app, name, _refuse_connection)
        app.set_default()
        app.set_current()

    @property
    def sending(self) -> Sending:
        """What this thread is sending now."""
        found: Sending | None = getattr(self._threads, "sending", None)
        if found is None:
            found = self._threads.sending = Sending()
        return found

    def _sending(self, producer: Any = None) -> AbstractContextManager[_NoProducer]:
        """What Celery enters around one send, and around all sends of a group: those become one submit."""
        return _IN_BATCH if self.sending.parcel is not None else self._batch()

    @contextmanager
    def _batch(self) -> Iterator[_NoProducer]:
        with self.sending.batch() as parcel:
            yield _NO_PRODUCER
        # Only reached without an exception: a group of which one part is refused sends nothing.
        self._deliver(parcel)

    def external(self) -> Mapping[str, Any] | None:
        """What jobs sent now keep of a producer that is not attached, or None."""
        return None

    def pack_body(self, group_id: str, results: Any, send: Callable[[str], object], *, is_group: bool) -> None:
        """Keep what the body of a chord sends until its header is sent.

        Args:
            group_id: of the header.
            results: Celery's of the header.
            send: sends the body, given what stands for the header's results.
            is_group: the body is a group, whose jobs fail with the part's own exception, as in Celery.
        """
        with trail_kept(self.app), self.sending.body(group_id, shape_of(results), is_group=is_group):
            send(results_of(group_id))

    def record(self, command: SubmitJob, headers: dict[str, Any]) -> None:
        """Take one send: the next attempt of the running job, a part of an open parcel, or a submit now."""
        run, sending = _running(), self.sending
        if run is not None and command.job_id == run.id and sending.waits_for is None:
            run.resend = resend_of(command)
            return
        if run is not None and run.grown.pop(str(command.job_id), None) is not None:
            command = replace(command, grows_join=True)
        replaces = (
            run is not None
            and not run.body_returned
            and int(headers.get("replaced_task_nesting") or 0) > _nesting(self.app)
        )
        if sending.parcel is not None:
            sending.add(command)
            sending.parcel.replaces = sending.parcel.replaces or replaces
        else:
            self._deliver(Parcel([command], replaces=replaces))

    def _deliver(self, parcel: Parcel) -> None:
        run = _running()
        commands, joins, replaces = parcel.unpacked()
        if not commands:
            return
        if run is not None and (run.body_returned or replaces):
            # A job that is replaced waits for these: they are stored in the moment from which it waits.
            own = next((one for one in commands if one.job_id == run.id), None)
            if own is not None:
                run.resend = resend_of(own)
            run.awaits_send = replaces and own is None
            run.sends.extend(one for one in commands if one is not own)
            run.joins.extend(joins)
        else:
            # Also for one: Celery asks for no more than the id, which it made itself.
            self.door().submit_many(_of_one_root(commands), joins)

    def _revoke(self, task_id: Any, *_: Any, **options: Any) -> None:
        cancel = self._cancel or getattr(self.door(), "cancel", None)
        if cancel is None:
            raise BrokerNotUsed(
                "There are no Celery workers to send a revoke to.",
                hint="Cancel the job: `headway jobs cancel ID`, or headway.Client().cancel(ID).",
            )
        several = isinstance(task_id, list | tuple | set)
        for one in task_id if several else [task_id]:
            try:
                cancel(str(one))
            except (TransitionConflict, JobNotFound):
                # Of a group some have ended, or were never sent; the others are to stop all the same.
                if not several:
                    raise


def attachment_of(app: Celery) -> Attachment | None:
    """The attachment of an application, or None while it is an ordinary one."""
    found: Attachment | None = getattr(app, "_headway", None)
    return found


def _of_one_root(commands: list[SubmitJob]) -> list[SubmitJob]:
    """What a script sends at once is one workflow; Celery gives each part a root of its own."""
    if len(commands) == 1:
        return commands
    root = commands[0].root_id or commands[0].job_id
    return [replace(one, root_id=root) if one.root_id in (None, one.job_id) else one for one in commands]


def _running() -> RunningAttempt | None:
    run = _current.get()
    return run if isinstance(run, RunningAttempt) else None


def _nesting(app: Any) -> int:
    task = app.current_worker_task
    return 0 if task is None else int(task.request.replaced_task_nesting or 0)


def _refuse_connection(*_: Any, **__: Any) -> NoReturn:
    raise BrokerNotUsed("This application runs in Headway without a broker, so there is nothing to connect to.")


class _NoProducer:
    """Stands where Celery expects a producer; what matters is written by ``send_task_message``."""

    serializer = None

    @property
    def connection(self) -> _NoProducer:
        return self

    connections = connection
    transport = connection
    driver_type = "headway"

    def _reraise_as_library_errors(self) -> AbstractContextManager[None]:
        return _AS_IT_IS

    @contextmanager
    def acquire(self, *_: Any, **__: Any) -> Iterator[_NoProducer]:
        yield self

    def publish(self, *_: Any, **__: Any) -> NoReturn:
        _refuse_connection()


_NO_PRODUCER = _NoProducer()
_IN_BATCH = nullcontext(_NO_PRODUCER)
_AS_IT_IS = nullcontext()


class RecordingAMQP(AMQP):
    """Mixed in front of the application's own AMQP class: same routes and messages, another way out."""

    headway: Attachment

    @property
    def create_task_message(self) -> Any:
        """What builds a message."""
        if self.headway.sending.waits_for is not None:
            return self._waiting_message
        # The texts are for brokers' messages and cost half of a send; the arguments themselves are stored.
        return partial(self.as_task_v2, argsrepr="", kwargsrepr="", origin="headway")

    def _waiting_message(self, *args: Any, **options: Any) -> Any:
        """Of what waits: its countdown and its lifetime begin when it is ready."""
        task_id, name, task_args, task_kwargs, countdown, eta, group_id, group_index, expires, *rest = args
        delay = self.headway.sending.delay = {}
        if countdown:
            delay["countdown"] = float(countdown)
            countdown = None
        if isinstance(expires, int | float):
            delay["expires_after"] = float(expires)
            expires = None
        return self.as_task_v2(
            task_id, name, task_args, task_kwargs, countdown, eta, group_id, group_index, expires, *rest,
            **({"argsrepr": "", "kwargsrepr": "", "origin": "headway"} | options),
        )  # fmt: skip

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
        """Record the message. The publish signals are sent as Celery does: tracing libraries put headers there."""
        all_headers, _, body, _ = message
        if headers:
            all_headers.update(headers)
        queue_name = getattr(queue, "name", queue) or routing_key
        if signals.before_task_publish.receivers:
            signals.before_task_publish.send(
                sender=name,
                body=body,
                exchange=exchange or "",
                routing_key=queue_name,
                declare=[],
                headers=all_headers,
                properties=options,
                retry_policy=None,
            )
        run = _running()
        if run is not None and run.traceparent is not None:
            all_headers.setdefault("traceparent", run.traceparent)
        command = command_from_message(name, all_headers, body, options, queue_name, self.headway.external())
        self.headway.record(command, all_headers)
        if signals.after_task_publish.receivers:
            signals.after_task_publish.send(
                sender=name, body=body, headers=all_headers, exchange=exchange or "", routing_key=queue_name
            )


class _BrokerlessAMQP(RecordingAMQP):
    """Without a producer to anything."""

    @property
    def producer_pool(self) -> Any:
        return _NO_PRODUCER

    publisher_pool = producer_pool


Attachment.amqp_class = _BrokerlessAMQP

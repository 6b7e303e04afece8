"""The cluster that is watched: its application, its broker and its result backend, and connections that never write."""

from __future__ import annotations

import os
from functools import cached_property
from typing import Any, Final

from celery import Celery
from celery.app.backends import BACKEND_ALIASES, by_url
from kombu import Connection

from headway.model.errors import BrokerNotSupported, InvalidSettings
from headway.model.redact import mask_secrets
from headway.observe.plans import beat_entries, named_queues, own_settings

CONNECT_SECONDS: Final = 4.0
_REDIS = frozenset({"redis", "rediss", "sentinel"})
_AMQP = frozenset({"amqp", "amqps", "pyamqp"})
# kombu's Redis transport gives back what another's worker has held for longer than this. An observer must never do
# that: its own idea of the time-out may be shorter than that of the application, and a long task would run twice.
_NEVER_RESTORE: Final = 10 * 365 * 86_400


_VARIABLES: Final = ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL", "CELERY_RESULT_BACKEND")


def forget_environment(*, broker: bool, result_backend: bool) -> None:
    """Take Celery's own variables away where something stands above them: its configuration asks them first, always.

    In the process that watches, which is nobody else's.
    """
    for name in _VARIABLES:
        if result_backend if name == "CELERY_RESULT_BACKEND" else broker:
            os.environ.pop(name, None)


def bare_app(broker: str | None, result_backend: str | None) -> Celery:
    """An application that has no tasks, for a cluster that is known by URLs only.

    Args:
        broker: its URL; ``valkey://`` is spoken to as Redis.
        result_backend: URL; None for none.
    """
    _check_backend(result_backend)
    forget_environment(broker=True, result_backend=True)
    app = Celery("headway.observe", set_as_current=False, broker=_as_redis(broker), backend=_as_redis(result_backend))
    # What the environment names is meant for an application of the user's, and was looked at before.
    app.conf.update(broker_url=_as_redis(broker), result_backend=_as_redis(result_backend))
    return app


def redirect(app: Celery, broker: str | None, result_backend: str | None) -> None:
    """Let options win over what the application names itself, and over the environment."""
    _check_backend(result_backend, app.loader)
    forget_environment(broker=broker is not None, result_backend=result_backend is not None)
    if broker is not None:
        app.conf.update(broker_url=_as_redis(broker), broker_read_url=None, broker_write_url=None)
    if result_backend is not None:
        app.conf.update(result_backend=_as_redis(result_backend))


def _check_backend(url: str | None, loader: Any = None) -> None:
    """Refuse a result backend of a kind that nobody knows; one whose driver is missing here is only told of."""
    kind = (url or "").partition("://")[0].partition("+")[0]
    if url is None or kind in BACKEND_ALIASES or "." in kind:
        return
    try:
        by_url(_as_redis(url), loader)
    except Exception as error:  # whatever a backend of somebody's own raises when it is imported
        shown = mask_secrets(url)
        raise InvalidSettings(
            f"the result backend {shown} is of a kind that Celery does not know here: {mask_secrets(str(error))}",
            hint="Write it as redis://HOST:6379/1, rpc:// or db+postgresql://USER:PASSWORD@HOST/DATABASE.",
            problems=["the result backend's URL"],
        ) from error


def _as_redis(url: str | None) -> str | None:
    for scheme, spoken in (("valkey://", "redis://"), ("valkeys://", "rediss://")):
        if url is not None and url.startswith(scheme):
            return spoken + url.removeprefix(scheme)
    return url


class Target:
    """One cluster.

    Args:
        app: its application, or one that only knows the URLs.
        own_app: whether it is the cluster's own, so that its queues, routes and schedule can be believed.
        observer_id: names the queues that events and answers arrive at.
    """

    def __init__(self, app: Celery, *, own_app: bool, observer_id: str) -> None:
        self.app = app
        self.own_app = own_app
        self.observer_id = observer_id
        self.transport = self._transport()

    @cached_property
    def broker_label(self) -> str:
        """The broker's URL without its password."""
        with self.app.connection_for_read() as connection:
            return mask_secrets(connection.as_uri())

    @property
    def backend_label(self) -> str | None:
        """The result backend's URL without its password; None without one."""
        url = self.app.conf.result_backend
        return mask_secrets(str(url)) if url else None

    def _transport(self) -> str:
        shown = mask_secrets(str(self.app.conf.broker_read_url or self.app.conf.broker_url))
        try:
            with self.app.connection_for_read() as connection:
                kind = (connection.transport_cls or "").split("+")[0]
        except (ImportError, KeyError) as error:
            # kombu loads a transport to read its URL: one that is not installed, or that nobody has heard of.
            raise BrokerNotSupported(f"the broker {shown} is of a kind that Headway cannot watch") from error
        except ValueError as error:
            raise InvalidSettings(
                f"the broker's URL {shown} cannot be read: {mask_secrets(str(error))}",
                hint="Write it as redis://HOST:6379/0 or amqp://USER:PASSWORD@HOST:5672/VHOST.",
                problems=["the broker's URL"],
            ) from error
        if kind in _REDIS:
            return "redis"
        if kind in _AMQP:
            return "rabbitmq"
        raise BrokerNotSupported(f"the broker {shown} is a {kind!r}, which Headway cannot watch")

    def connection(self, *, answer_seconds: float | None = None) -> Connection:
        """A new connection with the application's own options, which gives nothing back and waits for nobody long.

        Args:
            answer_seconds: how long an answer may take (Redis); None where the caller waits by itself.
        """
        options: dict[str, Any] = dict(self.app.conf.broker_transport_options or {})
        if self.transport == "redis":
            # Where the application wants retries, redis-py opens a connection anew by itself, and kombu listens on the old.
            options.update(visibility_timeout=_NEVER_RESTORE, unacked_restore_limit=1, retry_on_timeout=False)
            options.setdefault("socket_connect_timeout", CONNECT_SECONDS)
            if answer_seconds is not None:
                options["socket_timeout"] = answer_seconds
        connection = self.app.connection_for_read(transport_options=options, connect_timeout=CONNECT_SECONDS)
        assert isinstance(connection, Connection)
        return connection

    def routed_queues(self) -> set[str]:
        """Queues that the application's own configuration sends tasks to."""
        if not self.own_app:
            return set()
        settings = own_settings(self.app)
        return set(named_queues(settings, (), beat_entries(settings, self.app), set()))

    def known_queues(self) -> set[str]:
        """Queues that the application's own configuration names."""
        if not self.own_app:
            return {str(self.app.conf.task_default_queue)}
        return {str(name) for name in self.app.amqp.queues}


def keep_hands_off(channel: Any) -> None:
    """Make sure that a channel of kombu's Redis transport gives no message of others back to its queue."""
    qos = getattr(channel, "qos", None)
    if qos is not None and hasattr(qos, "restore_visible"):
        qos.restore_visible = _restore_nothing


def _restore_nothing(*_: object, **__: object) -> None:
    return None

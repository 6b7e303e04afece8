"""Asking workers: Celery's remote control, over one connection, with a reply queue that is always the same one."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from kombu import Connection
from kombu.pidbox import Mailbox

from headway.model.errors import BrokerAway
from headway.observe.target import Target, keep_hands_off

_ANSWER_SECONDS: Final = 3.0


class _NamedMailbox(Mailbox):
    """A mailbox whose replies arrive under a name of ours: what a killed observer left is found and removed."""

    fixed = ""

    @property
    def oid(self) -> str:
        return self.fixed


class Inspector:
    """Asks all workers of a cluster; used by one thread.

    Args:
        target: the cluster.
        purpose: makes the reply queue's name; two inspectors of one observer must not share it.
    """

    def __init__(self, target: Target, purpose: str) -> None:
        self._target = target
        conf: Any = target.app.conf
        self._mailbox = _NamedMailbox(
            conf.control_exchange,
            type="fanout",
            accept=conf.accept_content,
            serializer="json",
            queue_ttl=conf.control_queue_ttl,
            reply_queue_ttl=conf.control_queue_ttl,
            reply_queue_expires=conf.control_queue_expires,
        )
        self._mailbox.fixed = f"headway-{purpose}-{target.observer_id}"
        self._connection: Connection | None = None
        self._channel: Any = None

    def ask(
        self, command: str, *, timeout: float, expected: int = 0, arguments: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """What each worker answers to a command of Celery's remote control.

        Args:
            command: for example ``active``.
            timeout: seconds to wait for answers.
            expected: return as soon as so many have answered; 0 waits the whole time for any more.
            arguments: of the command.

        Returns:
            Node name to answer; empty when nobody answered.

        Raises:
            BrokerAway: the broker does not answer.
        """
        try:
            mailbox = self._open()
            replies = mailbox._broadcast(  # noqa: SLF001 - what Celery's own control does, with a channel of ours
                command,
                dict(arguments or {}),
                None,
                True,
                timeout,
                expected or None,
                None,
                channel=self._channel,
            )
        except Exception as error:
            self.drop()
            raise BrokerAway(f"the workers could not be asked: {error}") from error
        finally:
            # kombu keeps answers that came too late, in case somebody asks for them: nobody does.
            unclaimed: Any = vars(self._mailbox)["unclaimed"]
            unclaimed.clear()
        answers: dict[str, Any] = {}
        for reply in replies or ():
            if isinstance(reply, dict):
                answers.update((str(node), answer) for node, answer in reply.items())
        return answers

    def tell(self, command: str, arguments: Mapping[str, Any] | None = None) -> None:
        """Send a command and wait for no answer. Raises ``BrokerAway``."""
        try:
            self._open()._broadcast(command, dict(arguments or {}), None, False, channel=self._channel)  # noqa: SLF001
        except Exception as error:
            self.drop()
            raise BrokerAway(f"the workers could not be told: {error}") from error

    def _open(self) -> Any:
        if self._connection is None:
            self._connection = self._target.connection(answer_seconds=_ANSWER_SECONDS)
            self._connection.connect()
            self._channel = self._connection.default_channel
            keep_hands_off(self._channel)
        else:
            self._connection.heartbeat_check()
        return self._mailbox(self._connection)

    def drop(self) -> None:
        """Let the connection go; never raises."""
        connection, self._connection = self._connection, None
        self._channel = None
        with suppress(Exception):
            if connection is not None:
                connection.release()

    def close(self) -> None:
        """Leave no reply queue behind; never raises."""
        if self._channel is not None:
            with suppress(Exception):
                self._mailbox.get_reply_queue()(self._channel).delete()
        self.drop()

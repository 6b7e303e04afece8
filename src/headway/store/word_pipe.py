"""Wake-ups of a worker's child: said to its main process, which says them to everybody."""

from __future__ import annotations

import os
from contextlib import suppress

from headway.store.postgres_signals import PostgresSignal, channel_of


class PipeSignal(PostgresSignal):
    """Sends through a pipe, without a thread and without a connection; listens as ever where somebody waits.

    Args:
        write_end: descriptor of the pipe to the main process; what does not fit is lost, which costs a poll.
        conninfo: for listening.
    """

    def __init__(self, write_end: int, conninfo: str) -> None:
        super().__init__(conninfo)
        self._write_end = write_end

    def notify(self, topic: str) -> None:
        """See ``Signal.notify``."""
        self.wake_here(topic)
        if channel_of(topic) is not None:
            with suppress(OSError):
                # Shorter than what a pipe takes whole: an id has at most 255 characters.
                os.write(self._write_end, f"{topic}\n".encode())

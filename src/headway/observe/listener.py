"""The thread that hears events: it connects, listens, notices that it is cut off, and connects again."""

from __future__ import annotations

import threading
from typing import Final

import structlog

from headway.model.errors import BrokerAway
from headway.observe.buffer import Buffer, Connected, Lost
from headway.observe.sources import EventSource
from headway.ports.clock import Clock

log = structlog.get_logger("headway.observe")
_POLL_SECONDS: Final = 0.25
_PAUSES: Final = (0.2, 0.5, 1.0, 2.0)
SILENCE_SECONDS: Final = 10.0
"""After so long without a message the connection is asked whether it still is one."""


class Listener:
    """Hears events until it is stopped.

    Args:
        source: where from.
        buffer: where to.
        clock: the observer's.

    Attributes:
        connected: whether it hears now.
        why: what the broker said when it could not be reached; empty while it can.
        heard_at: when the last message came, UTC microseconds.
        good_at: until when the connection is known to have worked.
        caught_up: whether the broker had no more when it was last read.
        stored_tag: up to where messages are safe; set by whoever stores them.
    """

    def __init__(self, source: EventSource, buffer: Buffer, clock: Clock) -> None:
        self._source = source
        self._buffer = buffer
        self._clock = clock
        self._stop = threading.Event()
        self._told = 0
        self.connected = False
        self.why = ""
        self.heard_at: int | None = None
        self.stored_tag = 0
        self.caught_up = False
        self.good_at = 0
        self._thread = threading.Thread(target=self._run, name="headway-events", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self, *, timeout: float) -> None:
        """Stop listening; what was heard stays in the buffer. ``close`` comes once that is stored."""
        self._stop.set()
        self._thread.join(timeout)

    def close(self, *, for_good: bool = True) -> None:
        """Let go, and ``for_good`` leave nothing behind at the broker; after ``stop``."""
        if not self._thread.is_alive():
            try:
                self._acknowledge()
            except BrokerAway as error:
                log.debug("observe.events_close", error=error.message)
            self._source.close(for_good=for_good)

    def _run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                kept = self._source.connect()
            except BrokerAway as error:
                if failures == 0 or self.why != error.message:
                    log.warning("observe.broker_away", error=error.message)
                self.why = error.message
                self._stop.wait(_PAUSES[min(failures, len(_PAUSES) - 1)])
                failures += 1
                continue
            failures = 0
            self._listen(kept)

    def _listen(self, kept: bool) -> None:
        now = self._clock.now()
        self._buffer.note(Connected(now, kept))
        self.connected, self.why = True, ""
        log.info("observe.listening", kept=kept)
        self.good_at, quiet_since = now, self._clock.monotonic()
        try:
            while not self._stop.is_set():
                # Before it: whoever is frozen while it reads has not heard what came meanwhile.
                asked = self._clock.now()
                messages = self._source.poll(_POLL_SECONDS)
                now = self._clock.now()
                self.caught_up = self._source.drained
                if messages:
                    self._buffer.put(messages, now)
                    self.heard_at = now
                    if self._source.drained:
                        # Read to its end. What has waited while nobody read may be followed by nothing: then the
                        # broker has dropped what came after it.
                        self.good_at = asked
                    quiet_since = self._clock.monotonic()
                elif self._clock.monotonic() - quiet_since > SILENCE_SECONDS:
                    # A cut cable says nothing, and neither do workers that have nothing to do.
                    self._source.check()
                    self.good_at, quiet_since = now, self._clock.monotonic()
                self._acknowledge()
        except BrokerAway as error:
            self.connected, self.why = False, error.message
            log.warning("observe.events_lost", error=error.message)
            self._buffer.note(Lost(self.good_at, error.message))
        except Exception as error:
            # A fault of ours must not be the end of all listening: it is a gap, and the connection is made anew.
            log.exception("observe.events_lost")
            self.connected, self.why = False, f"{type(error).__name__}: {error}"
            self._buffer.note(Lost(self.good_at, self.why))
            self._stop.wait(_PAUSES[-1])
        finally:
            self.connected = False

    def _acknowledge(self) -> None:
        tag = self.stored_tag
        if tag > self._told:
            self._source.stored(tag)
            self._told = tag

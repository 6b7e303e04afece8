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
SILENCE_SECONDS: Final = 20.0
"""Where events came and none has come for so long, the connection is made anew: a cut cable says nothing."""


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
        stored_tag: up to where messages are safe; set by whoever stores them.
    """

    def __init__(self, source: EventSource, buffer: Buffer, clock: Clock) -> None:
        self._source = source
        self._buffer = buffer
        self._clock = clock
        self._stop = threading.Event()
        self._told = 0
        self._silent = False
        self.connected = False
        self.why = ""
        self.heard_at: int | None = None
        self.stored_tag = 0
        self._thread = threading.Thread(target=self._run, name="headway-events", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self, *, timeout: float) -> None:
        """Stop listening; what was heard stays in the buffer. ``close`` comes once that is stored."""
        self._stop.set()
        self._thread.join(timeout)

    def close(self) -> None:
        """Leave nothing behind at the broker; after ``stop``."""
        if not self._thread.is_alive():
            try:
                self._acknowledge()
            except BrokerAway as error:
                log.debug("observe.events_close", error=error.message)
            self._source.close(for_good=True)

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
        self._told = self.stored_tag = 0
        self._buffer.note(Connected(now, kept))
        self.connected, self.why = True, ""
        log.info("observe.listening", kept=kept)
        good, quiet_since = now, self._clock.monotonic()
        try:
            while not self._stop.is_set():
                messages = self._source.poll(_POLL_SECONDS)
                now = self._clock.now()
                if messages:
                    self._buffer.put(messages, now)
                    self.heard_at, good, self._silent = now, now, False
                    quiet_since = self._clock.monotonic()
                elif self.heard_at is None:
                    good = now
                elif not self._silent and self._clock.monotonic() - quiet_since > SILENCE_SECONDS:
                    self._silent = True
                    raise BrokerAway(f"nothing was heard for {SILENCE_SECONDS:g} s")
                self._acknowledge()
        except BrokerAway as error:
            self.connected, self.why = False, error.message
            log.warning("observe.events_lost", error=error.message)
            self._buffer.note(Lost(good, error.message))
        except Exception as error:
            # A fault of ours must not be the end of all listening: it is a gap, and the connection is made anew.
            log.exception("observe.events_lost")
            self.connected, self.why = False, f"{type(error).__name__}: {error}"
            self._buffer.note(Lost(good, self.why))
            self._stop.wait(_PAUSES[-1])
        finally:
            self.connected = False

    def _acknowledge(self) -> None:
        tag = self.stored_tag
        if tag > self._told:
            self._source.stored(tag)
            self._told = tag

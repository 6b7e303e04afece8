"""The verbs of sessions: named documents of a workload, kept in the store."""

from __future__ import annotations

from typing import Any

from headway.model.errors import InvalidRequest, SessionConflict, SessionNotFound
from headway.model.job import Session
from headway.ports.store import Tx
from headway.service.context import Context
from headway.service.verbs import verb


@verb
def save_session(ctx: Context, session_id: str, kind: str, body: dict[str, Any], expected_version: int) -> Session:
    """Create a session (expected version 0) or change the version that was read.

    Raises:
        SessionConflict: it exists already, or was changed meanwhile.
    """
    if not 0 < len(session_id) <= 255 or not session_id.isprintable():
        raise InvalidRequest(f"expected a session id of 1 to 255 printable characters, got: {session_id!r}")
    now = ctx.services.clock.now()
    session = Session(session_id, kind, body, expected_version + 1, now, now, ctx.actor.name)

    def work(tx: Tx) -> bool:
        saved = tx.save_session(session, expected_version)
        if saved:
            after = {"kind": kind, "version": session.version}
            tx.audit(ctx.actor.name, "save_session", session_id, after=after, trace_id=ctx.trace_id)
        return saved

    if not ctx.services.store.write(work):
        what = "exists already" if expected_version == 0 else "was changed or removed meanwhile"
        raise SessionConflict(f"the session {session_id!r} {what}")
    return get_session(ctx, session_id)


@verb
def get_session(ctx: Context, session_id: str) -> Session:
    """One session. Raises ``SessionNotFound``."""
    found = ctx.services.store.read(lambda reader: reader.session(session_id))
    if found is None:
        raise SessionNotFound(f"no session has the id {session_id!r}")
    return found


@verb
def list_sessions(ctx: Context, kind: str) -> list[Session]:
    """All sessions of a kind, newest first."""
    return ctx.services.store.read(lambda reader: reader.sessions(kind))


@verb
def delete_session(ctx: Context, session_id: str) -> None:
    """Remove a session. Raises ``SessionNotFound``."""

    def work(tx: Tx) -> bool:
        deleted = tx.delete_session(session_id)
        if deleted:
            tx.audit(ctx.actor.name, "delete_session", session_id, trace_id=ctx.trace_id)
        return deleted

    if not ctx.services.store.write(work):
        raise SessionNotFound(f"no session has the id {session_id!r}")

"""Cursors of lists that are ordered by (time, id), newest first: opaque to whoever pages, and never an offset."""

from __future__ import annotations

import base64
import json

from headway.model.errors import InvalidRequest


def write_cursor(at: int, item_id: str) -> str:
    """The cursor behind the last item of a page."""
    return base64.urlsafe_b64encode(json.dumps([at, item_id]).encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[int, str]:
    """(time, id) of a cursor. Raises ``InvalidRequest`` when it is none."""
    try:
        at, item_id = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        if not 0 <= int(at) < 2**63 or "\x00" in str(item_id):
            raise ValueError(at)
        return int(at), str(item_id)
    except (ValueError, TypeError, OverflowError) as error:
        raise InvalidRequest(
            f"expected cursor to be the next_cursor of a page, got: {cursor!r}", hint="Start again without a cursor."
        ) from error

"""What a broker has to allow whoever watches, for the moment in which it refuses."""

from __future__ import annotations

import re
from typing import Final

RABBITMQ: Final = (
    r"rabbitmqctl set_permissions -p VHOST USER '^(celeryev|(reply\.)?celery\.pidbox|(celeryev\.)?headway.*)$' "
    r"'^(celery\.pidbox|(celeryev\.)?headway.*)$' '^(celeryev|reply\.celery\.pidbox|(celeryev\.)?headway.*)$'"
)
REDIS: Final = (
    "ACL SETUSER USER %R~* &* +@read +@connection +@pubsub +info +multi +exec +config|get "
    "(~*_kombu.binding.* ~*headway-* +sadd +srem +brpop +del)"
)

_REFUSALS: Final = (
    # Of an exchange, a queue or a virtual host, in the words of old releases and of new ones; not of a login.
    (re.compile(r"(ACCESS_REFUSED|NOT_ALLOWED) - (\w+ )?access to"), RABBITMQ),
    # Of a command, a key or a channel; its client takes the code NOPERM away.
    (re.compile(r"no permissions to", re.IGNORECASE), REDIS),
)


def permission_remedy(says: str) -> str | None:
    """What to grant.

    Args:
        says: the broker's words.

    Returns:
        None where it does not complain of a missing permission.
    """
    for words, command in _REFUSALS:
        if words.search(says):
            return f"Its user may not do what watching takes. Allow it: {command}"
    return None

"""What a broker has to allow whoever watches, for the moment in which it refuses."""

from __future__ import annotations

from typing import Final

RABBITMQ: Final = (
    r"rabbitmqctl set_permissions -p VHOST USER '^(celeryev.*|.*pidbox)$' '^(celeryev\.headway.*|.*pidbox)$' '.*'"
)
REDIS: Final = (
    "ACL SETUSER USER %R~* &* +@read +@connection +@pubsub +info +multi +exec +config|get "
    "(~*_kombu.binding.* ~*headway-* +sadd +srem +brpop +del)"
)

# RabbitMQ's words about an exchange or a queue (not about a login), and those of Redis with and without its code.
_REFUSALS: Final = (("ACCESS_REFUSED - access to", RABBITMQ), ("NOPERM", REDIS), ("has no permissions to", REDIS))


def permission_remedy(says: str) -> str | None:
    """What to grant.

    Args:
        says: the broker's words.

    Returns:
        None where it does not complain of a missing permission.
    """
    for words, command in _REFUSALS:
        if words in says:
            return f"Its user may not do what watching takes. Allow it: {command}"
    return None

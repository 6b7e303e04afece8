"""How arguments and results become text."""

from __future__ import annotations

from typing import Any, Protocol


class Codec(Protocol):
    """JSON as Celery users know it: dates, UUIDs and Decimals survive the way there and back."""

    def dumps(self, value: Any) -> str:
        """Compact JSON text; raises ``NotSerializable`` naming the type that cannot be stored."""
        ...

    def loads(self, text: str) -> Any:
        """The value again."""
        ...

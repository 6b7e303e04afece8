"""The Python client: the verbs of REST as methods, answers as the model's dataclasses, problems as its errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from headway.client.api import JobsApi, StreamEvent
from headway.client.moments import as_datetime
from headway.client.remote import Client

if TYPE_CHECKING:
    
__all__ = ["Client", "JobsApi", "StreamEvent", "as_datetime"]


def __getattr__(name: str) -> Any:
    # The client of a server must not load the service, which only the local one needs.
    if name == "LocalClient":
        
        return LocalClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

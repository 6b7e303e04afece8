"""The Python client: the verbs of REST as methods, answers as the model's dataclasses, problems as its errors."""

# `headway.client.local` is imported where it is used: it needs the service, which a client of a server does not.
from headway.client.api import JobsApi, StreamEvent
from headway.client.moments import as_datetime
from headway.client.remote import Client

__all__ = ["Client", "JobsApi", "StreamEvent", "as_datetime"]

"""The Python client: the verbs of REST as methods, answers as the model's dataclasses, problems as its errors."""

from headway.client.api import JobsApi, StreamEvent
from headway.client.moments import as_datetime
from headway.client.remote import Client

__all__ = ["Client", "JobsApi", "StreamEvent", "as_datetime"]

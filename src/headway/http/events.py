"""REST of the feed: streams of one job and of all jobs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response

from headway.feed import FeedTailer
from headway.http.bodies import only_query, problems_of
from headway.http.jobs import Call, JobId
from headway.http.streams import all_stream, job_stream, wish_of

LastEventId = Annotated[
    str | None, Header(description="id of the last event that was seen: the stream goes on after it")
]
LogsAfter = Annotated[
    int | None,
    Query(
        ge=0,
        le=2**63 - 1,
        description="log lines above this id; without it all for a new reader, from now on for a resumed one",
    ),
]

STREAM_DOC = """
`event:` is the state entered (`queued`, `running`, `retry_scheduled`, `succeeded` …), `id:` its position in the
feed, and the data says by which verb, attempt and actor. `progress` and `log` carry no id. `reset` comes first when
`Last-Event-ID` is older than what is kept. Comments keep the connection open.
"""


def stream_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """OpenAPI's description of a stream of events and of the problems before it."""
    schema = {
        "type": "string",
        "description": "server-sent events; the data of each is JSON",
        "contentMediaType": "text/event-stream",
    }
    item = {
        "type": "object",
        "required": ["event", "data"],
        "properties": {
            "event": {"type": "string"},
            "id": {"type": "string"},
            "data": {
                "type": "string",
                "contentMediaType": "application/json",
                "contentSchema": {"$ref": "#/components/schemas/EventOut"},
            },
        },
    }
    content = {"text/event-stream": {"schema": schema, "itemSchema": item}}
    return {200: {"description": "a stream of events", "content": content}, **problems_of(*statuses)}


def events_router(tailer: FeedTailer) -> APIRouter:
    """The streams of REST.

    Args:
        tailer: the one reader of the feed.
    """
    router = APIRouter(prefix="/api/v1", tags=["events"])

    @router.get(
        "/jobs/{job_id}/events",
        response_class=Response,
        responses=stream_responses(404),
        description=f"The stream of one job: all its transitions, then the live ones, until its terminal one.{STREAM_DOC}",
    )
    async def of_job(
        request: Request, call: Call, job_id: JobId, last_event_id: LastEventId = None, logs_after: LogsAfter = None
    ) -> Response:
        only_query(request, "logs_after")
        return await job_stream(call, tailer, job_id, wish_of(last_event_id, logs_after))

    @router.get(
        "/events",
        response_class=Response,
        responses=stream_responses(),
        description=f"The stream of all jobs, from now on.{STREAM_DOC}",
    )
    async def of_all(request: Request, call: Call, last_event_id: LastEventId = None) -> Response:
        only_query(request)
        return await all_stream(call, tailer, wish_of(last_event_id))

    return router

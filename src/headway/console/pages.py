"""The templates, with what every page needs: the ways to the other pages, the words, and the page of an error."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import jinja2
from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from markupsafe import Markup, escape

from headway.console import words
from headway.console.colours import COLOURS, TONES, states_css
from headway.model.errors import ErrorKind, HeadwayError
from headway.model.observed import friendly_name
from headway.model.states import LIVE_STATES, STATE_VIEWS, TERMINAL_STATES, VIEW
from headway.model.times import to_rfc3339

HERE: Final = Path(__file__).parent
STATIC: Final = HERE / "static"
_STATUS: Final = {ErrorKind.NOT_FOUND: 404, ErrorKind.UNAVAILABLE: 503}
_QUOTED: Final = re.compile(r"`([^`]+)`")


def watches(request: Request) -> bool:
    """Whether this server is there to watch a cluster: then its first page is the situation, not the list of jobs."""
    services = request.state.call.services
    return services.cluster is not None or not services.runs_jobs


class Pages:
    """The templates.

    Args:
        version: of Headway, shown and used to renew cached files.
    """

    def __init__(self, version: str) -> None:
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(HERE / "templates"),
            autoescape=True,
            trim_blocks=True,
            lstrip_blocks=True,
            undefined=jinja2.StrictUndefined,
        )
        files = [STATIC / "console.css", STATIC / "console.js"]
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in files) + states_css().encode()).hexdigest()
        self._environment.globals.update(
            version=version,
            stamp=digest[:12],
            states=[view.state for view in STATE_VIEWS],
            live_states=LIVE_STATES,
            terminal_states=TERMINAL_STATES,
            views=VIEW,
            colours=COLOURS,
            tones=TONES,
        )
        self._environment.filters.update(
            duration=words.duration,
            age=words.age,
            rough=words.rough,
            sentence=words.sentence,
            rfc3339=to_rfc3339,
            percent=words.percent,
            amount=words.amount,
            pretty=words.pretty,
            named=lambda state: str(state).replace("_", " "),
            short=lambda text: text if len(text) <= 18 else f"{text[:8]}…{text[-6:]}",
            commands=_commands,
            friendly=friendly_name,
            quoted=lambda text: quote(text, safe=""),
        )

    def page(self, request: Request, template: str, status: int = 200, **fields: Any) -> Response:
        """A rendered template."""
        shown = {**_ways(request), **fields}
        return HTMLResponse(self._environment.get_template(template).render(**shown), status)

    def error(self, request: Request, error: HeadwayError) -> Response:
        """The page of something that could not be shown, with a way back."""
        return self.page(request, "error.html", _STATUS.get(error.kind, 422), error=error)


def _ways(request: Request) -> dict[str, Any]:
    """The navigation: (path, label) of each page, which one is shown, and where the list of jobs is."""
    path = request.url.path
    ways: tuple[tuple[str, str], ...]
    if watches(request):
        ways, jobs = (("/", "Situation"), ("/tasks", "Tasks")), "/jobs"
    else:
        ways, jobs = (("/", "Jobs"), ("/tasks", "Tasks"), ("/situation", "Situation")), "/"
    named = {"tasks": "Tasks", "situation": "Situation", "jobs": "Jobs", "": ways[0][1]}
    return {"ways": ways, "here": named.get(path.strip("/").partition("/")[0]), "jobs_path": jobs}


def _commands(text: str) -> Markup:
    """Text in which `what stands between backticks` is shown as something to type."""
    parts = _QUOTED.split(text)
    shown = (Markup("<code>{}</code>").format(part) if at % 2 else escape(part) for at, part in enumerate(parts))
    return Markup("").join(shown)

"""Options that several commands share, each said once."""

from __future__ import annotations

from typing import Annotated

import typer

DataDir = Annotated[str | None, typer.Option("--data-dir", help="Folder of everything that is written [default: var].")]
App = Annotated[
    str | None, typer.Option("-A", "--app", help="The application, as for `celery -A`.", show_default=False)
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Url = Annotated[str | None, typer.Option("--url", help="Talk to this server instead of the data directory's owner.")]
ApiKey = Annotated[
    str | None, typer.Option("--api-key", help="Key of that server [default: HEADWAY_API_KEY].", show_default=False)
]
JobId = Annotated[str, typer.Argument(help="Id of the job.", show_default=False)]
Args = Annotated[
    list[str] | None, typer.Option("--arg", help="A positional argument: JSON if it parses, else a string.")
]
Kwargs = Annotated[list[str] | None, typer.Option("--kwarg", metavar="K=V", help="A keyword argument, V as in --arg.")]

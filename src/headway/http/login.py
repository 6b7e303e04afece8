"""Signing in for pages: the key once, then a signed cookie that holds nothing of it."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final
from urllib.parse import parse_qs, quote

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import BaseModel, ConfigDict, StringConstraints, TypeAdapter

from headway.http.bodies import body_of, problems_of, read_body
from headway.http.security import COOKIE, SecuritySettings, key_matches, new_cookie
from headway.model.errors import MalformedRequest, Unauthenticated

router = APIRouter(tags=["sign-in"])

# Slows guessing down without a table of guessers.
WRONG_KEY_SECONDS: Final = 0.5


class LoginIn(BaseModel):
    """The key, and where to go afterwards (a path of this server)."""

    model_config = ConfigDict(extra="forbid", strict=True)

    key: Annotated[str, StringConstraints(max_length=1000)]
    next: Annotated[str, StringConstraints(max_length=2000)] = "/"


_LOGIN = TypeAdapter(LoginIn)


@router.post(
    "/login",
    status_code=204,
    responses={303: {"description": "signed in by the form"}, **problems_of(400, 415)},
    openapi_extra=body_of(LoginIn),
)
async def login(request: Request) -> Response:
    """Sign in: JSON is answered by 204, the page's form by going on to where it came from."""
    settings: SecuritySettings = request.state.security
    by_form = _is_form(request)
    wanted = await _form(request) if by_form else await read_body(request, _LOGIN)
    if settings.api_key is None:
        # Nothing to sign in to: whoever came this far is the local user.
        return RedirectResponse("/", 303) if by_form else Response(status_code=204)
    if not key_matches(wanted.key, settings):
        await asyncio.sleep(WRONG_KEY_SECONDS)
        if by_form:
            back = quote(local_path(wanted.next), safe="/")
            return RedirectResponse(f"/login?failed=1&next={back}", 303)
        raise Unauthenticated("This is not the key of this server.")
    answer = RedirectResponse(local_path(wanted.next), 303) if by_form else Response(status_code=204)
    now = request.state.call.services.clock.now()
    answer.set_cookie(
        COOKIE,
        new_cookie(settings, now),
        max_age=settings.cookie_seconds,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return answer


@router.post("/logout", status_code=204, responses={303: {"description": "signed out by the form"}})
async def logout(request: Request) -> Response:
    """Forget the cookie."""
    answer = RedirectResponse("/login", 303) if _is_form(request) else Response(status_code=204)
    answer.delete_cookie(COOKIE, httponly=True, samesite="strict", secure=request.url.scheme == "https")
    return answer


def local_path(target: str) -> str:
    """The target if it is a path of this server, else ``/``: a sign-in must not lead elsewhere."""
    plain = target.isprintable() and "\\" not in target
    return target if plain and target.startswith("/") and not target.startswith("//") else "/"


def _is_form(request: Request) -> bool:
    return request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded")


async def _form(request: Request) -> LoginIn:
    try:
        fields = parse_qs((await request.body()).decode(), keep_blank_values=True, max_num_fields=10)
    except ValueError as error:
        raise MalformedRequest("The form cannot be read.") from error
    return LoginIn(key=fields.get("key", [""])[0][:1000], next=fields.get("next", ["/"])[0][:2000])

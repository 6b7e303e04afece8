"""The reference pages that are written by the code itself: settings, commands, errors, states.

Each page under docs/reference/ has prose by hand and parts between `<!-- generated: NAME -->` and
`<!-- end generated -->`. `python -m tools.reference` (make docs) writes those parts anew; `make check` and tests/docs
fail while a page says something else than the code. So every setting, command, error and transition has its place.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

REFERENCE = Path(__file__).resolve().parent.parent / "docs" / "reference"
_PART = re.compile(
    r"(?P<head><!-- generated: (?P<name>[a-z-]+) -->\n)(?P<body>.*?)(?P<tail><!-- end generated -->)", re.DOTALL
)


def settings() -> str:
    """The settings that this version reads, as a table."""
    from headway.config import KEYS
    from headway.config.keys import CURRENT_STEP

    rows = [
        (f"`{key.name}`", f"`{key.default}`", key.expects + (" (secret)" if key.secret else ""), key.means)
        for key in KEYS
        if key.step <= CURRENT_STEP
    ]
    return _table(("setting", "default", "expected", "means"), rows)


def later_settings() -> str:
    """The settings that are known, and named as not yet used, as a table."""
    from headway.config import KEYS
    from headway.config.keys import CURRENT_STEP

    rows = [(f"`{key.name}`", f"`{key.default}`", key.expects) for key in KEYS if key.step > CURRENT_STEP]
    return _table(("setting", "default", "expected"), rows)


def errors() -> str:
    """Every error code, with what happened and what to do, as a table."""
    rows = [
        (f"`{error.code}`", str(error.kind), _first_paragraph(error), getattr(error, "default_hint", ""))
        for error in error_classes()
    ]
    return _table(("code", "kind", "what happened", "what to do"), rows)


def error_classes() -> list[Any]:
    """Every concrete class of the one tree of errors, in the order of their codes.

    All modules of the package are imported first, so that no error can hide in a module nobody has loaded.
    """
    from headway.model.errors import HeadwayError

    import_everything()
    tree = (HeadwayError, *_subclasses(HeadwayError))
    found = {cls.code: cls for cls in tree if cls.__module__.startswith("headway.")}
    return [found[code] for code in sorted(found)]


def import_everything() -> None:
    """Import each module of the package but the ones that act when they are imported."""
    package = importlib.import_module("headway")
    for module in pkgutil.walk_packages(package.__path__, "headway."):
        acts = module.name.rpartition(".")[2] in {"__main__", "env", "celery_app"} or ".versions" in module.name
        if not acts:
            importlib.import_module(module.name)


def transitions() -> str:
    """The transition table."""
    from headway.model.states import TRANSITIONS

    rows = [
        (
            f"`{row.verb}`",
            ", ".join(f"`{state}`" for state in row.from_states) or "(a new job)",
            f"`{row.to_state}`",
            "yes" if row.needs_fence else "",
            ", ".join(f"`{stamp}`" for stamp in row.stamps),
        )
        for row in TRANSITIONS
    ]
    return _table(("verb", "from", "to", "holder of the fence only", "stamps"), rows)


def state_names() -> str:
    """Each state with its meaning and its spellings elsewhere, as a table."""
    from headway.model.states import STATE_VIEWS, TERMINAL_STATES

    rows = [
        (
            f"`{view.state}`",
            view.meaning,
            "yes" if view.state in TERMINAL_STATES else "",
            f"`{view.document}`",
            f"`{view.celery}`",
        )
        for view in STATE_VIEWS
    ]
    return _table(("state", "meaning", "terminal", "documents", "Celery"), rows)


def picture() -> str:
    """The transition table as a Mermaid state diagram."""
    from headway.model.states import TERMINAL_STATES, TRANSITIONS

    arrows: dict[tuple[str, str], list[str]] = {}
    for row in TRANSITIONS:
        for source in row.from_states or ("[*]",):
            arrows.setdefault((str(source), str(row.to_state)), []).append(str(row.verb))
    lines = [f"    {source} --> {target}: {', '.join(verbs)}" for (source, target), verbs in arrows.items()]
    lines += [f"    {state} --> [*]" for state in sorted(TERMINAL_STATES)]
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def commands() -> str:
    """Every command of the command line with its arguments and options."""
    from typer.main import get_command

    from headway.cli.main import app

    parts = []
    for words, command in _leaves(("headway",), get_command(app)):
        help_text = inspect.cleandoc(command.help or "").split("\f")[0].strip()
        rows = [_parameter(p) for p in command.params if p.name != "help" and not getattr(p, "hidden", False)]
        table = "\n\n" + _table(("argument or option", "default", "means"), rows) if rows else ""
        parts.append(f"### `{' '.join(words)}`\n\n{help_text}{table}")
    return "\n\n".join(parts)


GENERATED: dict[str, Callable[[], str]] = {
    "settings": settings,
    "later-settings": later_settings,
    "errors": errors,
    "transitions": transitions,
    "states": state_names,
    "picture": picture,
    "commands": commands,
}


def rewritten(text: str) -> str:
    """The page with each generated part written anew."""

    def part(match: re.Match[str]) -> str:
        return f"{match['head']}\n{GENERATED[match['name']]().strip()}\n\n{match['tail']}"

    return _PART.sub(part, text)


def stale() -> Iterator[str]:
    """What is wrong with the generated parts: a page that differs from the code, or a part on no page."""
    on_pages: set[str] = set()
    for page in sorted(REFERENCE.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        on_pages.update(match["name"] for match in _PART.finditer(text))
        if rewritten(text) != text:
            yield f"docs/reference/{page.name} is not what the code says: run `make docs`"
    for name in sorted(set(GENERATED) - on_pages):
        yield f"no page of docs/reference/ has the generated part '{name}'"


def main() -> int:
    """Write the generated parts of all reference pages."""
    for page in sorted(REFERENCE.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        new = rewritten(text)
        if new != text:
            page.write_text(new, encoding="utf-8")
            print(f"wrote {page.name}")
    return 0


def _leaves(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    children = getattr(command, "commands", None)
    if not children:
        yield words, command
        return
    for name in sorted(children):
        if not children[name].hidden:
            yield from _leaves((*words, name), children[name])


def _parameter(parameter: Any) -> tuple[str, str, str]:
    names = [*parameter.opts, *parameter.secondary_opts]
    is_option = any(name.startswith("-") for name in names)
    shown = (
        ", ".join(f"`{name}`" for name in names) if is_option else f"`{parameter.metavar or parameter.name.upper()}`"
    )
    default = parameter.default
    plain = isinstance(default, str | int | float) and not isinstance(default, bool) and default != ""
    text = "required" if parameter.required else f"`{default}`" if plain else ""
    return shown, text, " ".join((getattr(parameter, "help", None) or "").split())


def _subclasses(cls: type[Any]) -> Iterator[Any]:
    child: type[Any]
    for child in cls.__subclasses__():
        yield child
        yield from _subclasses(child)


def _first_paragraph(thing: object) -> str:
    return " ".join(inspect.cleandoc(inspect.getdoc(thing) or "").split("\n\n")[0].split()).replace("``", "`")


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    def line(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([line(head), line("---" for _ in head), *(line(row) for row in rows)])


if __name__ == "__main__":
    sys.exit(main())

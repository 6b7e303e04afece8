"""Where settings come from, and the order in which one hides another."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from io import StringIO
from pathlib import Path
from typing import Any

import yaml
from dotenv import dotenv_values
from pydantic import ValidationError

from headway.config.keys import BY_ATTRIBUTE, BY_NAME, CURRENT_STEP, LATER, Key
from headway.config.settings import Settings, mask_url
from headway.model.errors import InvalidSettings

ENV_FILE = ".env"
TOML_FILE = "headway.toml"
CLUSTER_TABLE = "cluster"
USER_FILE = Path(".config") / "headway" / "headway.yml"
_PREFIX = "HEADWAY_"
_OF_THE_TESTS = "HEADWAY_TEST_"  # a Postgres to test against, say: inherited by the processes that tests start
_LOWER = {name.lower(): key for name, key in BY_NAME.items()}
_PATHS = ("data_dir", "job_registry_path", "model_paths")


@dataclass(frozen=True, slots=True)
class Found:
    """One value as a source gave it."""

    key: Key
    value: Any
    source: str


class _Reading:
    """What was found so far, first come first kept, and everything that is wrong with it."""

    def __init__(self) -> None:
        self.found: dict[str, Found] = {}
        self.problems: list[str] = []
        self.notices: list[str] = []

    def take(self, key: Key, value: Any, source: str) -> None:
        """Keep a value unless a source before this one gave the key."""
        if key.name in self.found:
            return
        self.found[key.name] = Found(key, value, source)
        if key.step > CURRENT_STEP:
            when = "in a later step" if key.step == LATER else f"from step {key.step} on"
            self.notices.append(f"{key.name} ({source}) is known but not yet used: it will be {when}.")

    def unknown(self, name: str, source: str) -> None:
        """A name of ours that nobody knows."""
        self.problems.append(f"{name} ({source}) is not a setting{_near(name)}")

    def options(self, options: Mapping[str, Any]) -> None:
        """Values given on the command line or by the caller, by attribute or by name; None is not given."""
        for name, value in options.items():
            key = BY_ATTRIBUTE.get(name) or _LOWER.get(name.lower())
            if key is None:
                self.unknown(name, "option")
            elif value is not None:
                self.take(key, value, "option")

    def variables(self, variables: Mapping[str, str | None], source: str) -> None:
        """Variables of the environment or of .env: both are shared, so that only HEADWAY_… is surely ours."""
        for name, value in variables.items():
            key = BY_NAME.get(name)
            if key is not None and "." not in name:
                if value:  # an empty variable counts as not set
                    self.take(key, value, source)
            elif name.upper().startswith(_PREFIX) and not name.startswith(_OF_THE_TESTS):
                self.unknown(name, source)
            elif name.startswith(("JOB_", "POPULATION_")) and (near := _near(name, cutoff=0.85)):
                self.notices.append(f"{name} ({source}) is not a setting of Headway{near}")

    def table(self, table: Mapping[str, Any], source: str) -> None:
        """A file of ours: names as in the settings table (any case), ``scheduler.…`` as a block."""
        for name, value in _flat(table):
            key = _LOWER.get(name.lower())
            if key is None:
                self.unknown(name, source)
            elif value is not None:
                self.take(key, value, source)


def load_settings(
    *,
    options: Mapping[str, Any] | None = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Settings:
    """Read the settings: option > environment > ``.env`` > ``headway.toml`` > ``~/.config/headway/headway.yml``.

    Args:
        options: values by attribute (``data_dir``) or name (``HEADWAY_DATA_DIR``); None counts as not given.
        cwd: folder of ``.env`` and ``headway.toml``, and of relative paths; the current one when None.
        env: the environment; the process's own when None.

    Returns:
        The settings, paths made absolute; ``notices`` names keys that are known but not used yet.

    Raises:
        InvalidSettings: wrong values, unknown names or unreadable files; the message lists all of them.
    """
    folder = Path(cwd) if cwd is not None else Path.cwd()
    environment = os.environ if env is None else env
    reading = _Reading()
    reading.options(options or {})
    reading.variables(environment, "environment")
    _read_env_file(reading, folder / ENV_FILE)
    _read_table(reading, folder / TOML_FILE)
    _read_table(reading, _home(environment) / USER_FILE)
    settings = _build(reading, folder)
    if reading.problems or settings is None:
        raise InvalidSettings(
            "Settings are wrong:\n" + "\n".join(f"  - {problem}" for problem in reading.problems),
            hint="Correct them and start again; `headway doctor` prints each setting and where it came from.",
            problems=reading.problems,
        )
    settings._remember({name: (_shown(one), one.source) for name, one in reading.found.items()})  # noqa: SLF001 - one package
    return settings


def _build(reading: _Reading, folder: Path) -> Settings | None:
    values: dict[str, Any] = {
        one.key.attribute: one.value for one in reading.found.values() if one.key.attribute is not None
    }
    values.setdefault("data_dir", "var")
    values["notices"] = tuple(reading.notices)
    try:
        settings = Settings(**{name: _anchored(name, value, folder) for name, value in values.items()})
    except ValidationError as error:
        for wrong in error.errors(include_url=False, include_context=False):
            if wrong["type"] == "default_factory_not_called":
                continue  # a default that depends on a value that is wrong, which has its own line
            # The model's own check (no field) is the one of the lease.
            attribute = str(wrong["loc"][0]) if wrong["loc"] else "lease_seconds"
            problem = _wrong_value(reading, attribute)
            if problem not in reading.problems:
                reading.problems.append(problem)
        return None
    return settings


def _wrong_value(reading: _Reading, attribute: str) -> str:
    key = BY_ATTRIBUTE[attribute]
    one = reading.found.get(key.name)
    got, source = (_shown(one), one.source) if one else (key.default, "default")
    if key.name == "HEADWAY_LEASE_SECONDS" and (beat := reading.found.get("HEADWAY_HEARTBEAT_SECONDS")):
        source += f"; HEADWAY_HEARTBEAT_SECONDS is {_shown(beat)} from {beat.source}"
    return f"{key.name}: expected {key.expects}, got {got} ({source})"


def _shown(one: Found) -> str:
    """The value for people. Of a secret only its length: a wrong one may be a right one with a typing error."""
    if one.key.secret and isinstance(one.value, str) and "://" in one.value:
        return repr(mask_url(one.value))
    if one.key.secret:
        return f"a text of {len(one.value)} characters" if isinstance(one.value, str) else type(one.value).__name__
    if isinstance(one.value, str):
        return repr(mask_url(one.value))
    return str(one.value) if not isinstance(one.value, bool) else str(one.value).lower()


def _anchored(attribute: str, value: Any, folder: Path) -> Any:
    """Relative paths made absolute, so that a later change of folder moves nothing."""
    if attribute not in _PATHS or not value:
        return value
    if attribute == "model_paths":
        items = value.split(os.pathsep) if isinstance(value, str) else value
        if not isinstance(items, list | tuple) or not all(isinstance(item, str | Path) for item in items):
            return value
        return [item if str(item) in {"", "shipped"} else str(folder / Path(item).expanduser()) for item in items]
    if not isinstance(value, str | Path) or "://" in str(value):
        return value
    return str(folder / Path(value).expanduser())


def _flat(table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """``{a: 1, scheduler: {b: 2}}`` as ``a`` and ``scheduler.b``."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            for inner, deep in value.items():
                yield f"{name}.{inner}", deep
        else:
            yield str(name), value


def _near(name: str, cutoff: float = 0.6) -> str:
    # Without the prefix: what all names share says nothing about which was meant.
    matches = get_close_matches(_bare(name), list(_BARE), n=2, cutoff=cutoff)
    return f"; did you mean {' or '.join(_BARE[match].name for match in matches)}?" if matches else ""


def _bare(name: str) -> str:
    return name.lower().removeprefix(_PREFIX.lower())


_BARE = {_bare(name): key for name, key in BY_NAME.items()}


def _home(env: Mapping[str, str]) -> Path:
    return Path(env["HOME"]) if env.get("HOME") else Path("~").expanduser()


def _read_text(reading: _Reading, path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8") if path.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        reading.problems.append(f"{path} cannot be read: {error}")
        return None


def _read_env_file(reading: _Reading, path: Path) -> None:
    text = _read_text(reading, path)
    if text is not None:
        # Without interpolation: a `$` in a password is a `$`.
        reading.variables(dotenv_values(stream=StringIO(text), interpolate=False), str(path))


def _read_table(reading: _Reading, path: Path) -> None:
    text = _read_text(reading, path)
    if text is None:
        return
    try:
        table = tomllib.loads(text) if path.suffix == ".toml" else yaml.safe_load(text)
    except (tomllib.TOMLDecodeError, yaml.YAMLError) as error:
        reading.problems.append(f"{path} cannot be understood: {' '.join(str(error).split())}")
        return
    if table is None:
        return
    if not isinstance(table, Mapping):
        reading.problems.append(f"{path}: expected settings by name, got {type(table).__name__}")
        return
    if path.name == TOML_FILE:
        # No settings but processes: `headway cluster` reads and checks that part.
        table = {name: value for name, value in table.items() if name != CLUSTER_TABLE}
    reading.table(table, str(path))

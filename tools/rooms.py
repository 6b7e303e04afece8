"""An import-linter contract that holds the table of rooms: who may import whom, directly.

The stock contracts list what is forbidden, so a new room is free until somebody remembers it. This one lists what is
allowed: an import that is not in the table is an error, and so is a room without a row.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

from importlinter import Contract, ContractCheck, fields, output

if TYPE_CHECKING:
    from collections.abc import Iterable

    from grimp import ImportGraph

ROOT = "headway"
ANYTHING = "*"


class RoomsContract(Contract):
    """Holds the direct imports of each top-level module of the package to a table.

    Options:
        allowed: rows `importer: imported imported …`, by the names of the rooms under the root package. The root's own
            name stands for its `__init__.py` alone, `*` for everything.
        external: rows `package package …: importer importer …`; those packages are imported by no other room.
        pure: rooms that import nothing outside the package but the standard library.
    """

    type_name = "rooms"

    allowed = fields.ListField(subfield=fields.StringField())
    external = fields.ListField(subfield=fields.StringField(), required=False)
    pure = fields.ListField(subfield=fields.StringField(), required=False)

    def check(self, graph: ImportGraph, verbose: bool) -> ContractCheck:
        """Compare every direct import of the graph with the table."""
        allowed = {room: set(names) for (room,), names in rows(_option(self.allowed))}
        owners = {package: set(rooms) for packages, rooms in rows(_option(self.external)) for package in packages}
        problems = []
        for importer in sorted(m for m in graph.modules if m == ROOT or m.startswith(f"{ROOT}.")):
            here = room_of(importer)
            if here not in allowed:
                problems.append(f"{importer}: the room '{here}' has no row in the table")
                continue
            for imported in sorted(graph.find_modules_directly_imported_by(importer)):
                reason = self._reason(here, imported, allowed[here], owners)
                if reason:
                    lines = _lines(graph, importer, imported)
                    problems.append(f"{importer} -> {imported} (line {lines}): {reason}")
        return ContractCheck(kept=not problems, metadata={"problems": problems})

    def render_broken_contract(self, check: ContractCheck) -> None:
        """Print each import that the table does not allow, with its line."""
        for problem in check.metadata["problems"]:
            output.print_error(problem, bold=False)
        output.new_line()

    def _reason(self, here: str, imported: str, allowed: set[str], owners: dict[str, set[str]]) -> str | None:
        if imported == ROOT or imported.startswith(f"{ROOT}."):
            there = room_of(imported)
            if there == here or ANYTHING in allowed or there in allowed:
                return None
            return f"'{here}' may import only {', '.join(sorted(allowed)) or 'nothing'}"
        package = imported.partition(".")[0]
        if package in owners and here not in owners[package]:
            return f"only {', '.join(sorted(owners[package]))} may import {package}"
        if here in _option(self.pure) and package not in sys.stdlib_module_names:
            return f"'{here}' imports only the standard library"
        return None


def room_of(module: str) -> str:
    """The room a module belongs to: `headway.store.jobs` → `store`; the root package itself is `headway`."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def rows(lines: Iterable[str]) -> list[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Each line `a b: c d` as (("a", "b"), ("c", "d"))."""
    split = (line.partition(":") for line in lines)
    return [(tuple(left.split()), tuple(right.split())) for left, _, right in split]


def _option(value: object) -> list[str]:
    # import-linter replaces the field of the class by the parsed list on the instance, which its types do not tell.
    return cast("list[str]", value or [])


def _lines(graph: ImportGraph, importer: str, imported: str) -> str:
    details = graph.get_import_details(importer=importer, imported=imported)
    return ", ".join(sorted({str(detail["line_number"]) for detail in details})) or "?"

"""One module writes a job's state: store/transitions.py. Looked for in the syntax trees of the whole package."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import headway.model

PACKAGE = Path(headway.model.__file__).parents[1]
WRITER = PACKAGE / "store" / "transitions.py"
_SQL = re.compile(r"\b(update\s+jobs\b.*\bset\b.*\bstate\s*=|insert\s+into\s+jobs\b)", re.IGNORECASE | re.DOTALL)


def writes_of_jobs(source: str) -> list[str]:
    """Where a source inserts jobs, or sets their state.

    Found: SQL in a string; `insert(jobs)` in any spelling; `update(jobs)` in a function that also names `state` as a
    keyword of `values(…)` or as the key of a dictionary.
    """
    found = []
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _SQL.search(node.value):
            found.append(f"line {node.lineno}: SQL")
        if isinstance(node, ast.Call) and _name(node.func).startswith("insert") and _is_jobs(node.args):
            found.append(f"line {node.lineno}: insert")
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            updates = [n for n in ast.walk(node) if isinstance(n, ast.Call) and _updates_jobs(n)]
            if updates and any(_sets_state(n) for n in ast.walk(node)):
                found.append(f"line {node.lineno}: {node.name} updates jobs and sets a state")
    return found


def _name(function: ast.expr) -> str:
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _is_jobs(args: list[ast.expr]) -> bool:
    return bool(args) and (
        (isinstance(args[0], ast.Name) and args[0].id == "jobs")
        or (isinstance(args[0], ast.Attribute) and args[0].attr == "jobs")
    )


def _updates_jobs(call: ast.Call) -> bool:
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    return _name(call.func) == "update" and (_is_jobs(call.args) or (owner is not None and _is_jobs([owner])))


def _sets_state(node: ast.AST) -> bool:
    if isinstance(node, ast.Call) and _name(node.func) == "values":
        return any(keyword.arg == "state" for keyword in node.keywords)
    if isinstance(node, ast.Dict):
        return any(isinstance(key, ast.Constant) and key.value == "state" for key in node.keys)
    return False


def test_only_transitions_writes_the_state_of_jobs() -> None:
    sources = [path for path in PACKAGE.rglob("*.py") if path != WRITER and "migrations" not in path.parts]
    found = {str(path.relative_to(PACKAGE)): writes_of_jobs(path.read_text(encoding="utf-8")) for path in sources}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_the_search_finds_the_one_writer() -> None:
    found = writes_of_jobs(WRITER.read_text(encoding="utf-8"))
    assert any("insert" in line for line in found), found
    assert any("updates jobs" in line for line in found), found


def test_the_search_finds_each_spelling() -> None:
    assert writes_of_jobs("q = 'UPDATE jobs SET a = 1, state = :s'")
    assert writes_of_jobs("q = 'insert into jobs (id) values (1)'")
    assert writes_of_jobs("tables.jobs.insert(jobs)")
    assert writes_of_jobs("def f():\n    return update(jobs).values(state='failed')")
    assert writes_of_jobs("def f():\n    v = {'state': 1}\n    return sa.update(tables.jobs).values(v)")
    assert writes_of_jobs("def f():\n    return jobs.update().values(state='failed')")
    assert not writes_of_jobs("def f():\n    return sa.update(jobs).values(heartbeat_at=1)")

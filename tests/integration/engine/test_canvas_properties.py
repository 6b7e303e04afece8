"""Random canvases end with what plain Python makes of the same tree."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord, group
from celery.result import AsyncResult
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from headway.testing.invariants import check_invariants
from tests.integration.engine import sample
from tests.integration.engine.conftest import Node
from tests.waiting import wait_until


class Tree:
    """A canvas and the function that it is.

    Args:
        words: how it reads in a failure.
        signature: what Celery is given.
        value: its result, given what the step before it returned.
    """

    def __init__(self, words: str, signature: Any, value: Any) -> None:
        self.words = words
        self.signature = signature
        self.value = value

    def __repr__(self) -> str:
        return self.words


def _step(number: int) -> Tree:
    return Tree(f"plus({number})", sample.add_up.s(number), lambda given: _total(given) + number)


def _replaced(inner: list[Tree]) -> Tree:
    signatures = [dict(one.signature) for one in inner]
    return Tree(f"replaced({inner})", sample.replaced_by.s(signatures), _through(inner))


def _through(steps: list[Tree]) -> Any:
    def value(given: Any) -> Any:
        for step in steps:
            given = step.value(given)
        return given

    return value


def _chain(steps: list[Tree]) -> Tree:
    return Tree(f"chain({steps})", chain(*[one.signature for one in steps]), _through(steps))


def _chord(parts: list[Tree], body: Tree) -> Tree:
    header = group([one.signature for one in parts])
    return Tree(
        f"chord({parts}, {body})",
        chord(header, body.signature),
        lambda given: body.value([one.value(given) for one in parts]),
    )


def _total(value: Any) -> int:
    return sum(_total(one) for one in value) if isinstance(value, list) else int(value)


class Broken(Exception):
    """What plain Python makes of a step that fails."""


def _fails(given: Any) -> Any:
    raise Broken


STEPS = st.integers(0, 9).map(_step)
FAILING = st.one_of(STEPS, st.just(Tree("boom", sample.boom.si("broken"), _fails)))


def trees(leaves: st.SearchStrategy[Tree]) -> st.SearchStrategy[Tree]:
    """Canvases over these steps."""
    return st.recursive(
        leaves,
        lambda inner: st.one_of(
            st.lists(inner, min_size=2, max_size=3).map(_chain),
            st.builds(_chord, st.lists(inner, min_size=1, max_size=3), inner),
            st.lists(leaves, min_size=1, max_size=2).map(_replaced),
        ),
        max_leaves=8,
    )


@pytest.fixture(scope="module")
def running() -> Iterator[Node]:
    folder = Path(tempfile.mkdtemp(prefix="headway-canvas-"))
    node = Node(folder)
    node.start()
    yield node
    node.close()
    shutil.rmtree(folder, ignore_errors=True)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
@given(tree=trees(STEPS), number=st.integers(0, 5))
def test_a_random_canvas_is_what_python_makes_of_it(running: Node, tree: Tree, number: int) -> None:
    result: Any = chain(sample.as_given.s(number), tree.signature.clone()).delay()
    assert result.get(timeout=20) == tree.value(number)
    check_invariants(running.store)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
@given(tree=trees(FAILING))
def test_a_random_canvas_that_fails_leaves_nothing_waiting(running: Node, tree: Tree) -> None:
    result: Any = chain(sample.as_given.s(1), tree.signature.clone()).delay()
    ended = running.ended(result.id)
    try:
        expected = tree.value(1)
    except Broken:
        assert ended.error.code in {"task_failed", "chord_broken", "chain_broken"}
        assert isinstance(AsyncResult(result.id, app=sample.app).get(timeout=5, propagate=False), Exception)
    else:
        assert result.get(timeout=20) == expected
    wait_until(lambda: not any(running.store.read(lambda r: r.counts()).values()), what="everything to end")
    check_invariants(running.store)

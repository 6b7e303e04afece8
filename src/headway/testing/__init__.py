"""Shipped to users: a clock that stands still, ids in a row, and a check of everything a store has recorded."""

from headway.testing.clock import FakeClock, SeqIds
from headway.testing.invariants import Counted, InvariantBroken, check_invariants

__all__ = ["Counted", "FakeClock", "InvariantBroken", "SeqIds", "check_invariants"]

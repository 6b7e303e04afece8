"""Long-running parts. Each is a ``run_once() -> result`` that a ``Loop`` calls when it is woken or its time has come."""

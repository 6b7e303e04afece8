"""Every test of the suite that passes without Headway and not with it, and why; and what is not run in any way.

Both directions are checked: a test that fails and is not here, and one that is here and passes, are findings.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# Files that need what no machine of ours has, whichever way their tasks run.
NOT_RUN: Final[Mapping[str, str]] = {
    "test_backend.py": "It stores blobs in an account at Azure.",
    "test_native_delayed_delivery_binding.py": "It asks RabbitMQ's management API at port 15672 of localhost.",
    "test_rabbitmq_chord_unlock_routing.py": "It connects to hosts named rabbit and redis, and is expected to fail.",
    "test_rabbitmq_default_queue_type_fallback.py": "It starts RabbitMQ in Docker, and is expected to fail.",
}

_CANVAS: Final = "test_canvas.py::"
_TASKS: Final = "test_tasks.py::"


def _each(reason: str, *tests: str) -> dict[str, str]:
    return dict.fromkeys(tests, reason)


_ONLY_REDIS_KEYS: Final = "It looks into the keys and channels of Celery's Redis backend; results are in the database."
_ONLY_WORKER: Final = "It listens for a signal that a worker sends at the receipt of a message; here is no message."
_WHOLE_CHORD: Final = "It wants a part to run before the generator has made the last; a chord is stored whole, at once."
_GENERATOR: Final = tuple(f"{_CANVAS}test_chord::test_generator[{size}]" for size in range(3, 10))

EMBEDDED: Final[Mapping[str, str]] = {}

MANAGED: Final[Mapping[str, str]] = {
    **_each(_WHOLE_CHORD, *_GENERATOR),
    **_each(
        _ONLY_REDIS_KEYS,
        f"{_CANVAS}test_chord::test_chord_on_error",
        f"{_CANVAS}test_chord::test_simple_chord_with_a_delay_in_group_save",
        f"{_TASKS}test_task_redis_result_backend::test_asyncresult_forget_cancels_subscription",
        f"{_TASKS}test_task_redis_result_backend::test_asyncresult_get_cancels_subscription",
    ),
}

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


_REDIS_KEYS: Final = "It looks into the keys and channels of Celery's Redis backend; results are in the database."
_WHOLE_CHORD: Final = "It wants a part to run before the generator has made the last; a chord is stored whole, at once."
_NO_RECEIPT: Final = "It listens for what a worker says when it receives a message; no message is sent here."
_NO_WORKER: Final = "Revoking by a stamp is a broadcast to workers, of which there are none."
_ACKS_LATE: Final = "It wants the message acknowledged while the task runs; here that would lose it with its worker."
_NOT_PARKED: Final = "It looks for a delayed task in the memory of a worker; it waits in the database."
_CANCELLED: Final = "It looks for a revoked id in the memory of a worker; the job is cancelled in the database."
_ONE_ID: Final = "It sends one id in several canvases; an id is one job, and another request for it is refused."
_BOTH_END: Final = "It wants the outer chord of a failed inner one left open, so that one errback is called; here both fail, and two are."
_OWN_END: Final = (
    "It stores the result of the task that runs, and rejects; how an attempt ended is its worker's to say."
)
_ONCE: Final = "It sends every message twice and wants the task to run twice; a duplicate is refused."

_GENERATOR: Final = tuple(f"{_CANVAS}test_chord::test_generator[{size}]" for size in range(3, 10))
_FROZEN: Final = tuple(
    f"{_CANVAS}test_chord::test_mutable_errback_called_by_chord_from_{header}[errback_{style}_style]"
    for header in ("chain", "chain_tail", "group")
    for style in ("old", "new")
)
_CHANNELS: Final = f"{_TASKS}test_task_redis_result_backend::test_asyncresult"

# In both ways: neither has Celery's result backend, and both store a chord in one transaction.
_BOTH: Final[Mapping[str, str]] = {
    **_each(_WHOLE_CHORD, *_GENERATOR),
    **_each(_ONE_ID, *_FROZEN),
    **_each(_BOTH_END, f"{_CANVAS}test_chord::test_nested_chord_header_link_error"),
    **_each(
        _REDIS_KEYS,
        f"{_CANVAS}test_chord::test_chord_on_error",
        f"{_CANVAS}test_chord::test_simple_chord_with_a_delay_in_group_save",
        f"{_CHANNELS}_forget_cancels_subscription",
        f"{_CHANNELS}_get_cancels_subscription",
    ),
}

EMBEDDED: Final[Mapping[str, str]] = {
    **_BOTH,
    **_each(
        _NO_RECEIPT,
        f"{_TASKS}test_trace_log_arguments::test_task_success",
        f"{_TASKS}test_trace_log_arguments::test_task_failed",
        f"{_TASKS}test_task_replacement::test_replaced_task_nesting_level_0",
        f"{_TASKS}test_task_replacement::test_replaced_task_nesting_level_1",
        f"{_TASKS}test_task_replacement::test_replaced_task_nesting_chain",
        f"{_CANVAS}test_stamping_mechanism::test_task_received_has_access_to_stamps",
        f"{_CANVAS}test_stamping_mechanism::test_linking_stamped_sig",
        f"{_CANVAS}test_stamping_mechanism::test_err_linking_stamped_sig",
    ),
    **_each(
        _NO_WORKER,
        f"{_TASKS}test_tasks::test_revoked_by_headers_simple_canvas",
        f"{_TASKS}test_tasks::test_revoked_by_headers_complex_canvas",
        f"{_TASKS}test_tasks::test_revoke_by_stamped_headers_no_match",
    ),
    **_each(
        "A task runs in a thread, which a soft time limit cannot interrupt.",
        f"{_CANVAS}test_chain::test_chord_soft_timeout_recuperation",
    ),
    **_each(
        "A task that nobody registered is refused when it is sent: no other process could know it.",
        f"{_CANVAS}test_chain::test_chain_of_chain_with_a_single_task",
    ),
}

MANAGED: Final[Mapping[str, str]] = {
    **_BOTH,
    **_each(_ACKS_LATE, "test_inspect.py::test_Inspect::test_active", "test_inspect.py::test_Inspect::test_query_task"),
    **_each(_NOT_PARKED, "test_inspect.py::test_Inspect::test_scheduled"),
    **_each(_ONE_ID, f"{_TASKS}test_tasks::test_revoked_by_headers_complex_canvas"),
    **_each(
        _OWN_END,
        "test_dedup_chain_dispatch.py::test_dedup_chain_dispatch::test_dedup_dispatches_chain_on_redelivery",
        "test_dedup_chain_dispatch.py::test_dedup_chain_dispatch::test_dedup_dispatches_callback_on_redelivery",
    ),
    **_each(_CANCELLED, "test_inspect.py::test_Inspect::test_revoked"),
    **_each(
        _ONCE, f"{_CANVAS}test_chain::test_chord_header_id_duplicated_on_rabbitmq_msg_duplication[redis-group-ids]"
    ),
}

"""What a retry and a clear will do after a failure, in words."""

from __future__ import annotations

from airflow_provider_wiro.exceptions import (
    WiroConfigurationError,
    WiroError,
    WiroOrderError,
    WiroRunUnknownError,
    WiroStoreError,
    WiroTaskCancelledError,
    WiroTaskFailedError,
    WiroTaskTimeoutError,
)
from airflow_provider_wiro.submission.decision import MAX_FAILURES
from airflow_provider_wiro.submission.record import Record


def outlook(record: Record | None, error: BaseException, on_clear: str) -> str:
    """Return what comes next for an order; nothing where the error's own words tell.

    :param record: what is remembered of the order.
    :param error: what ended the try.
    :param on_clear: the operator's argument.
    """
    final_cancel = isinstance(error, WiroTaskCancelledError) and not error.retryable
    nothing_yet = isinstance(error, WiroConfigurationError) and record is None
    if final_cancel or nothing_yet or isinstance(error, (WiroOrderError, WiroRunUnknownError, WiroStoreError)):
        return ""
    retryable = not isinstance(error, WiroError) or error.retryable
    next_start = "A retry, or a clear," if retryable else "Airflow does not retry this. A clear"
    wiro_task_id = record.wiro_task_id if record is not None else getattr(error, "wiro_task_id", None)
    if wiro_task_id is None and (record is None or not record.unfinished):
        return f"Nothing is ordered. {next_start} orders."
    if wiro_task_id is None:
        return f"A Run may have been sent. {next_start} looks for it at Wiro before it sends anything."
    stopped = isinstance(error, WiroTaskTimeoutError) and "was stopped" in error.message
    if stopped or isinstance(error, (WiroTaskFailedError, WiroTaskCancelledError)):
        if retryable and record is not None and record.failures + 1 >= MAX_FAILURES:
            return "It was not the first one: a retry says so, and a clear orders anew."
        return f"{next_start} orders anew."
    again = "" if on_clear == "reattach" else " (a clear orders a new video: on_clear='resubmit')"
    return f"{next_start} goes on with Wiro task {wiro_task_id} and pays for nothing more{again}."

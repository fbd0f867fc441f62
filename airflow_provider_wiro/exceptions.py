"""What can go wrong, and whose turn it is to act.

::

    WiroError                        every error of this package; an AirflowException
    ├── WiroConfigurationError       yours: the connection or an argument cannot be used; nothing was sent
    │   └── WiroInputError           yours: inputs that the model does not take; names every one of them
    ├── WiroCostError                it would cost more than `max_cost`, or nobody can tell; nothing was sent
    ├── WiroAPIError                 Wiro answered, and refused
    │   ├── WiroAuthenticationError  key, secret, signature, address or sign-in refused (401, codes 98 and 99)
    │   ├── WiroBalanceError         the account's balance does not cover the run (code 97)
    │   ├── WiroBusyError            come back later: account limit (code 96) or request rate (HTTP 429)
    │   ├── WiroNotFoundError        no such model, task or address (code 1, HTTP 404)
    │   └── WiroBadRequestError      a parameter is missing or wrong (code 0 with such a message)
    ├── WiroConnectionError          no usable answer: unreachable, time-out, HTTP 5xx, not JSON
    │   └── WiroRunUnknownError      a Run was sent and its answer is lost: it may have been accepted
    ├── WiroOrderError               the order cannot go on: its inputs changed, or it failed too often
    ├── WiroStoreError               Airflow's task state store cannot be read or written; nothing was sent after that
    │   └── WiroSupersededError      another try of the same task has taken over; this process sends nothing
    ├── WiroTaskError                the remote task exists and did not deliver
    │   ├── WiroTaskFailedError      the model failed; not billed
    │   ├── WiroTaskCancelledError   somebody cancelled or killed it; not billed
    │   ├── WiroTaskTimeoutError     it did not end within `timeout`
    │   └── WiroBatchError           too few videos of a batch succeeded
    └── WiroOutputError              the task succeeded, and its files cannot be had

Every error carries ``code``, ``http_status`` and ``wiro_task_id`` where they are known, says in ``retryable`` whether
the same call may pass later, and its text ends with what to do. ``AirflowException`` is the root because Airflow's
``soft_fail`` looks for it. This module is the only thing below the hook that imports Airflow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import ClassVar

from airflow.sdk.exceptions import AirflowException, AirflowFailException

ACCOUNT_IS_FULL = 96
"""Wiro's code for an account that runs as many tasks as it may (Wiro's documentation)."""


class WiroError(AirflowException):
    """Root of the tree.

    :param message: what happened, one or more sentences.
    :param code: Wiro's error code, where its answer had one.
    :param http_status: status of the HTTP answer, where there was one.
    :param wiro_task_id: the remote task that this is about, where known.
    :param retryable: whether the same call may pass later; default: as the class says.
    :param advice: what to do; default: as the class says.
    """

    default_retryable: ClassVar[bool] = False
    default_advice: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        code: int | None = None,
        http_status: int | None = None,
        wiro_task_id: str | None = None,
        retryable: bool | None = None,
        advice: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.http_status = http_status
        self.wiro_task_id = wiro_task_id
        self.retryable = self.default_retryable if retryable is None else retryable
        self.advice = self.default_advice if advice is None else advice

    def __str__(self) -> str:
        facts = [
            f"{label} {value}"
            for label, value in (
                ("Wiro task", self.wiro_task_id),
                ("code", self.code),
                ("HTTP", self.http_status),
            )
            if value is not None
        ]
        parts = [self.message, f"({', '.join(facts)})" if facts else "", self.advice]
        return " ".join(part for part in parts if part)


class WiroConfigurationError(WiroError, AirflowFailException):
    """The connection or an argument cannot be used. Nothing was sent, and Airflow does not retry."""

    default_advice = "Correct it and run again."


class WiroInputError(WiroConfigurationError, ValueError):
    """Inputs that the model does not take. Nothing was sent.

    :param model: the model, as ``owner/name``.
    :param faults: one sentence for each fault: the field, the value, what is allowed.
    """

    default_advice = "Nothing was sent and nothing is billed: correct the inputs and run again."

    def __init__(self, model: str, faults: list[str]) -> None:
        super().__init__(f"The inputs for {model} are not right: {'; '.join(faults)}.")
        self.model = model
        self.faults = faults

    def __reduce__(self) -> tuple[type[WiroInputError], tuple[str, list[str]]]:
        return type(self), (self.model, self.faults)


class WiroCostError(WiroError):
    """An order would cost more than `max_cost`, or what it costs cannot be known. Nothing was sent for it."""

    default_advice = "Nothing is billed: raise `max_cost`, or order less."


class WiroAPIError(WiroError):
    """Wiro answered, and refused."""

    default_advice = "Wiro's message above tells the cause."


class WiroAuthenticationError(WiroAPIError):
    """Wiro refused the credentials (HTTP 401, codes 98 and 99)."""

    default_advice = (
        "Check the fields 'API key' and 'API secret' of the connection, and that the project's kind (signature or key "
        "only) and its allowed addresses fit; `airflow connections test` tries them without spending anything."
    )


class WiroBalanceError(WiroAPIError):
    """The account's balance does not cover the run (code 97). Nothing was billed."""

    default_advice = "Top up the Wiro account, then clear this task."


class WiroBusyError(WiroAPIError):
    """The account runs as many tasks as it may (code 96), or sends too many requests (HTTP 429).

    :param retry_after: seconds that the answer asked to wait, if it did.
    :param limit: how many tasks the account may run at once, if the answer said so.
    """

    default_retryable = True
    default_advice = (
        "Nothing was accepted or billed. A higher balance admits more tasks (Wiro allows a tenth of it, in dollars, as "
        "concurrent tasks up to $250)."
    )

    def __init__(
        self, message: str, *, retry_after: float | None = None, limit: int | None = None, **facts: object
    ) -> None:
        super().__init__(message, **facts)  # type: ignore[arg-type]
        self.retry_after = retry_after
        self.limit = limit


class WiroNotFoundError(WiroAPIError):
    """No such model, task or address (code 1, HTTP 404)."""

    default_advice = (
        "Check the model's name, the task's id and the connection's 'Base URL'; a task belongs to one project."
    )


class WiroBadRequestError(WiroAPIError):
    """Wiro says that a parameter is missing or wrong (code 0 with such a message)."""

    default_advice = "Correct the parameter: the same request never passes."


class WiroConnectionError(WiroError):
    """No usable answer: unreachable, a time-out, HTTP 5xx, or something that is not JSON."""

    default_retryable = True
    default_advice = "Check the network between this machine and the connection's 'Base URL', then retry."


class WiroRunUnknownError(WiroConnectionError):
    """A Run was sent and its answer is lost: Wiro may have accepted it, and a second Run might be paid twice."""

    default_retryable = False
    default_advice = (
        "It is not known whether the run was accepted, so it is not sent again: look for it in the project's newest "
        "tasks at Wiro. If it is there, fetch it with WiroTaskSensor and WiroFetchOutputsOperator; if not, clear this "
        "task."
    )


class WiroOrderError(WiroError):
    """The order cannot go on, and nothing was sent for it now."""


class WiroStoreError(WiroError):
    """Airflow's task state store cannot be read or written: without its record, nothing is sent."""

    default_retryable = True
    default_advice = "Nothing is sent without a record of it. A retry, or a clear, looks at Wiro first."


class WiroSupersededError(WiroStoreError):
    """Another try of the same Airflow task has taken over: this process stops, and touches nothing at Wiro."""


class WiroTaskError(WiroError):
    """The remote task exists and did not deliver."""


class WiroTaskFailedError(WiroTaskError):
    """The model failed (a terminal status without success). Wiro does not bill such a task."""

    default_retryable = True
    default_advice = "A failed task is not billed. Read the reason; a new submission is a new attempt."


class WiroTaskCancelledError(WiroTaskError):
    """Somebody, or Wiro itself, cancelled or killed the task. Wiro does not bill it."""

    default_advice = "A cancelled task is not billed. To order the video again, clear the task that submitted it."


class WiroTaskTimeoutError(WiroTaskError):
    """The task did not end within `timeout`."""


class WiroBatchError(WiroTaskError):
    """Fewer videos of a batch succeeded than `min_success_ratio` asks for."""

    default_advice = "What was made is in the manifest. A retry, or a clear, makes only what is missing."


class WiroOutputError(WiroError):
    """The task succeeded, and its files cannot be had or cannot be stored."""

    default_retryable = True
    default_advice = (
        "The task is paid and its files stay at Wiro for a limited time: run WiroFetchOutputsOperator for this task "
        "id, do not submit again."
    )


@contextmanager
def without_useless_retries(
    may_retry: Callable[[WiroError], bool] = lambda error: error.retryable,
) -> Iterator[None]:
    """Make errors that no retry can mend fail the Airflow task at once, whatever its ``retries``.

    :param may_retry: tells which errors Airflow may answer with a retry; default: those that are ``retryable``.
    :raises AirflowFailException: in place of every other :class:`WiroError`, with its name and text.
    """
    try:
        yield
    except WiroError as error:
        if may_retry(error):
            raise
        raise AirflowFailException(f"{type(error).__name__}: {error}") from error

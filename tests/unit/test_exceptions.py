from __future__ import annotations

import copy
import inspect
import pickle

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from airflow_provider_wiro import exceptions
from airflow_provider_wiro.exceptions import (
    WiroAPIError,
    WiroAuthenticationError,
    WiroBadRequestError,
    WiroBalanceError,
    WiroBatchError,
    WiroBusyError,
    WiroConfigurationError,
    WiroConnectionError,
    WiroCostError,
    WiroError,
    WiroInputError,
    WiroNotFoundError,
    WiroOrderError,
    WiroOutputError,
    WiroRunUnknownError,
    WiroStoreError,
    WiroSupersededError,
    WiroTaskCancelledError,
    WiroTaskError,
    WiroTaskFailedError,
    WiroTaskTimeoutError,
    without_useless_retries,
)

# class, parent, retryable
TREE = [
    (WiroError, AirflowException, False),
    (WiroConfigurationError, WiroError, False),
    (WiroInputError, WiroConfigurationError, False),
    (WiroCostError, WiroError, False),
    (WiroAPIError, WiroError, False),
    (WiroAuthenticationError, WiroAPIError, False),
    (WiroBalanceError, WiroAPIError, False),
    (WiroBusyError, WiroAPIError, True),
    (WiroNotFoundError, WiroAPIError, False),
    (WiroBadRequestError, WiroAPIError, False),
    (WiroConnectionError, WiroError, True),
    (WiroRunUnknownError, WiroConnectionError, False),
    (WiroOrderError, WiroError, False),
    (WiroStoreError, WiroError, True),
    (WiroSupersededError, WiroStoreError, True),
    (WiroTaskError, WiroError, False),
    (WiroTaskFailedError, WiroTaskError, True),
    (WiroTaskCancelledError, WiroTaskError, False),
    (WiroTaskTimeoutError, WiroTaskError, False),
    (WiroBatchError, WiroTaskError, False),
    (WiroOutputError, WiroError, True),
]


def make(kind: type[WiroError]) -> WiroError:
    if issubclass(kind, WiroInputError):
        return kind("owner/name", ["seed is 'x', allowed: a number", "fps is 3, allowed: '24'"])
    return kind("It broke.", code=5, http_status=418, wiro_task_id="4711")


@pytest.mark.parametrize(("kind", "parent", "retryable"), TREE)
def test_the_tree(kind: type[WiroError], parent: type[Exception], retryable: bool) -> None:
    assert kind.__bases__[0] is parent
    assert make(kind).retryable is retryable


def test_the_tree_is_whole_and_drawn() -> None:
    classes = {
        member
        for _, member in inspect.getmembers(exceptions, inspect.isclass)
        if issubclass(member, WiroError) and member.__module__ == exceptions.__name__
    }

    assert classes == {kind for kind, *_ in TREE}
    for kind in classes:
        assert kind.__name__ in (exceptions.__doc__ or "")


def test_a_wrong_configuration_is_final_for_airflow() -> None:
    assert issubclass(WiroConfigurationError, AirflowFailException)
    assert issubclass(WiroInputError, ValueError)


@pytest.mark.parametrize("kind", [kind for kind, *_ in TREE[1:]])
def test_texts_carry_facts_and_advice(kind: type[WiroError]) -> None:
    error = make(kind)
    text = str(error)

    assert text.startswith(error.message)
    if not isinstance(error, WiroInputError):
        assert "(Wiro task 4711, code 5, HTTP 418)" in text
    assert text.endswith(error.advice)
    assert error.advice or kind in (WiroOrderError, WiroTaskError, WiroTaskTimeoutError)


def test_code_zero_is_a_fact_and_absent_facts_are_not_shown() -> None:
    assert "(code 0)" in str(WiroAPIError("No.", code=0))
    assert str(WiroError("No.")) == "No."


def test_what_is_given_wins_over_the_class() -> None:
    error = WiroOutputError("No.", retryable=False, advice="Wait.")

    assert not error.retryable
    assert str(error) == "No. Wait."


def test_inputs_are_listed() -> None:
    one = WiroInputError("owner/name", ["seed is 'x', allowed: a number"])

    assert "are not right: seed is 'x'" in str(one)
    assert all(fault in str(make(WiroInputError)) for fault in make(WiroInputError).faults)
    assert "Nothing was sent" in str(one)


@pytest.mark.parametrize("kind", [kind for kind, *_ in TREE])
def test_errors_survive_pickle_and_copy(kind: type[WiroError]) -> None:
    error = make(kind)
    error.retryable = not error.retryable
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is kind
        assert str(twin) == str(error)
        assert (twin.code, twin.http_status, twin.wiro_task_id) == (error.code, error.http_status, error.wiro_task_id)
    if kind is not WiroInputError:
        assert pickle.loads(pickle.dumps(error)).retryable is error.retryable


def test_a_busy_error_keeps_what_it_was_asked_to_wait() -> None:
    error = WiroBusyError("Slow down.", retry_after=3.5, http_status=429)

    assert pickle.loads(pickle.dumps(error)).retry_after == 3.5
    assert WiroBusyError("Slow down.").retry_after is None


@pytest.mark.parametrize(("kind", "_parent", "retryable"), TREE)
def test_only_errors_that_a_retry_may_mend_are_left_to_airflow(
    kind: type[WiroError], _parent: type, retryable: bool
) -> None:
    error = make(kind)
    with pytest.raises(AirflowException) as caught, without_useless_retries():
        raise error

    if retryable:
        assert caught.value is error
    else:
        assert isinstance(caught.value, AirflowFailException)
        assert kind.__name__ in repr(caught.value)
        assert error.message in str(caught.value)


def test_the_caller_may_say_what_airflow_may_retry() -> None:
    with (
        pytest.raises(AirflowFailException, match="WiroBusyError: Slow down"),
        without_useless_retries(lambda _: False),
    ):
        raise WiroBusyError("Slow down.")
    with pytest.raises(WiroBalanceError), without_useless_retries(lambda _: True):
        raise WiroBalanceError("No money.")


def test_other_errors_pass_untouched() -> None:
    with pytest.raises(KeyError), without_useless_retries(lambda _: False):
        raise KeyError("x")

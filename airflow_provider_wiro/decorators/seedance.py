"""``@task.seedance``: a function that says what the video shows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    DecoratedOperator,
    TaskDecorator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)
from airflow.sdk.definitions._internal.types import SET_DURING_EXECUTION

from airflow_provider_wiro.exceptions import WiroInputError, without_useless_retries
from airflow_provider_wiro.operators.seedance import INPUTS, SeedanceRunOperator
from airflow_provider_wiro.parsing import default_args_here

if TYPE_CHECKING:
    from airflow.sdk import Context


class _SeedanceDecoratedOperator(DecoratedOperator, SeedanceRunOperator):
    """Calls a function and orders the video that it describes.

    :param python_callable: returns a prompt, or a mapping of arguments of
        :class:`~airflow_provider_wiro.operators.seedance.SeedanceRunOperator` that are inputs (``prompt``,
        ``duration``, …). What it returns is sent as it is, never rendered as a template.
    :param op_args: positional arguments of the function. (templated)
    :param op_kwargs: keyword arguments of the function. (templated)
    """

    template_fields: Sequence[str] = (*DecoratedOperator.template_fields, *SeedanceRunOperator.template_fields)
    template_fields_renderers = {
        **DecoratedOperator.template_fields_renderers,
        **SeedanceRunOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.seedance"
    overwrite_rtif_after_execution = True

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            python_callable=python_callable,
            op_args=op_args,
            op_kwargs=op_kwargs,
            prompt=SET_DURING_EXECUTION,
            **kwargs,
        )

    def execute(self, context: Context) -> dict[str, Any]:
        """Call the function, then order."""
        context_merge(context, self.op_kwargs)
        arguments = determine_kwargs(self.python_callable, self.op_args, context)
        answer = self.python_callable(*self.op_args, **arguments)
        with without_useless_retries():
            self._take(answer)
        # DecoratedOperator, first among the bases, has an execute of another kind.
        return SeedanceRunOperator.execute(self, context)

    def _take(self, answer: Any) -> None:
        inputs = answer if isinstance(answer, Mapping) else {"prompt": answer}
        unknown = [name for name in inputs if name not in INPUTS]
        if unknown or "prompt" not in inputs:
            allowed = ", ".join(INPUTS)
            faults = [f"{name} is not an input, allowed: {allowed}" for name in unknown]
            if "prompt" not in inputs:
                faults.append("prompt is missing in what the function returned")
            raise WiroInputError(self.model, faults)
        for name, value in inputs.items():
            setattr(self, name, value)


def seedance_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Turn a function into a task that orders a video (``@task.seedance``).

    :param python_callable: the function; it returns a prompt, or a mapping of inputs.
    :param kwargs: arguments of :class:`~airflow_provider_wiro.operators.seedance.SeedanceRunOperator`, for every video.
    """
    defaults = default_args_here(**kwargs)
    if defaults is not None:  # outside of a Dag, the arguments are checked where the function is called
        SeedanceRunOperator.check_arguments(**{**defaults, **kwargs})
    return task_decorator_factory(
        python_callable=python_callable,
        # The function's annotation speaks of the order, not of what the task returns.
        multiple_outputs=False,
        decorated_operator_class=_SeedanceDecoratedOperator,
        **kwargs,
    )

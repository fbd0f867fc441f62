"""Order a run of any model; how it orders and waits, and the fetching operator, have files of their own."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any, ClassVar

from airflow_provider_wiro.api.seedance import find_model, wire_inputs
from airflow_provider_wiro.exceptions import WiroConfigurationError
from airflow_provider_wiro.links import WiroTaskLink, WiroVideoLink
from airflow_provider_wiro.operators._elsewhere import seconds
from airflow_provider_wiro.operators._ordering import OrdersOnce
from airflow_provider_wiro.operators.fetch import WiroFetchOutputsOperator
from airflow_provider_wiro.parsing import Later, amount_of, check_destination, check_verify, is_unresolved
from airflow_provider_wiro.templating import DataFromOtherTasks
from airflow_provider_wiro.waiting import default_deferrable

_DOC_MD = """\
Orders a run at [Wiro](https://wiro.ai). The button **Wiro task** under *Details* opens it there, also while it waits;
the XCom `return_value` holds its id, and its cost and outputs where this task waits for its end.
"""


__all__ = ["WiroFetchOutputsOperator", "WiroRunOperator"]


class WiroRunOperator(DataFromOtherTasks, OrdersOnce):
    """Orders one run of any Wiro model, once; waits for it and fetches its files if asked to.

    A retry goes on with what an earlier try has ordered, whatever ended that one: see ``docs/exactly-once.md``. It
    returns ``{"wiro_task_id", "model", "submitted_at"}``; with ``wait_for_completion`` also ``status``,
    ``total_cost`` (US dollars, decimal string), ``elapsed_seconds`` and ``outputs``; with ``destination`` also
    ``files`` and ``manifest``.

    :param model: ``owner/name``. (templated)
    :param inputs: the model's inputs, by their names on the wire. Numbers and booleans are sent as text, as Wiro's
        tool sheets do; ``None`` is left out; those of a Seedance model are checked first. (templated)
    :param files: input name and path of a local file, sent along as multipart. (templated)
    :param wiro_conn_id: the connection; default ``wiro_default``. (templated)
    :param wait_for_completion: wait until the run has ended; default False: submit only.
    :param deferrable: wait in the triggerer and not on a worker; default True, or what the environment variable
        ``AIRFLOW__OPERATORS__DEFAULT_DEFERRABLE`` says.
    :param poll_interval: seconds (or a timedelta) between two looks at the task while it may end at any moment;
        default 15.
    :param max_poll_interval: seconds (or a timedelta) between two looks in the triggerer while it is not expected to
        end, going by the runs of its model that have been seen; default: four times `poll_interval`.
    :param timeout: seconds (or a timedelta) from the submission until the waiting ends; default 3600. So long, too, an
        order waits for a place while the account runs as many tasks as it may (code 96).
    :param destination: folder to fetch the outputs to, as for :class:`WiroFetchOutputsOperator`; needs
        ``wait_for_completion``. (templated)
    :param verify: whether a video has to be whole and as ordered, as for :class:`WiroFetchOutputsOperator`:
        ``container`` (default) or ``none``. (templated)
    :param delete_remote: whether the files are deleted at Wiro once they are stored, as for
        :class:`WiroFetchOutputsOperator`; default False.
    :param reuse: whether a request whose model and inputs are equal to one that has been delivered to the same
        `destination` before, by whichever task, is answered with those files and not paid again; default False. What
        is returned then has ``reused_from``, the Wiro task that made them, and a ``total_cost`` of 0. A clear with
        ``on_clear="resubmit"`` orders anew.
    :param cancel_on_kill: whether the remote task is stopped when somebody ends this Airflow task; default True.
    :param cancel_on_timeout: whether the remote task is stopped when `timeout` has passed; default True.
    :param on_unknown: what to do where the outcome of a Run is not known and Wiro's tasks do not prove it: ``fail``
        (the default) without a retry and name the candidates, ``adopt`` the only candidate, or ``resubmit`` although
        both may be paid. (templated)
    :param on_clear: what a clear does: ``reattach`` (the default) to what was ordered and deliver it again, or
        ``resubmit``, which stops what still runs and orders a new video. (templated)
    :param settle: seconds (or a timedelta) after a lost connection in which Wiro may still accept a Run; default 60.
        A Run is sent again only after that.
    :param max_cost: US dollars that the run may cost, by the prices that Wiro tells of its model (one request more);
        default ``None``: anything. What is estimated to cost more, or cannot be estimated, is refused before it is
        sent; an order that stands is gone on with. (templated)
    :raises WiroInputError: an input is not allowed; for literals when the Dag is parsed, for templates before any
        request.
    :raises WiroCostError: the run would cost more than `max_cost`, or that cannot be known; nothing was sent.
    :raises WiroAPIError: Wiro refused, and nothing was accepted; :class:`~.exceptions.WiroBusyError`: no place in the
        account came free within `timeout`.
    :raises WiroConnectionError: no connection stood, and nothing was sent.
    :raises WiroStoreError: Airflow's task state store does not answer; without a record nothing is sent.
    :raises WiroRunUnknownError: Wiro does not tell for 15 minutes whether a Run was accepted; a retry looks again.
    :raises WiroTaskFailedError: the model failed; a retry orders anew.
    :raises WiroTaskTimeoutError: it did not end in time; a retry orders anew, or goes on with it if it was left.
    :raises WiroOutputError: a file cannot be had whole; a retry fetches again.
    :raises AirflowFailException: in place of any error that a retry cannot mend; its text begins with the error's name.
    """

    template_fields: Sequence[str] = (
        "model",
        "inputs",
        "files",
        "wiro_conn_id",
        "destination",
        "verify",
        "on_unknown",
        "on_clear",
        "max_cost",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"inputs": "json", "files": "json"}
    operator_extra_links = (WiroTaskLink(), WiroVideoLink())
    custom_operator_name = "Wiro run"
    ui_color = "#d9c7f7"

    def __init__(
        self,
        *,
        model: str,
        inputs: Mapping[str, Any],
        files: Mapping[str, str] | None = None,
        wiro_conn_id: str = "wiro_default",
        wait_for_completion: bool = False,
        deferrable: bool = default_deferrable(),
        poll_interval: float | timedelta = 15.0,
        max_poll_interval: float | timedelta | None = None,
        timeout: float | timedelta = 3600.0,
        destination: str | None = None,
        verify: str = "container",
        delete_remote: bool = False,
        reuse: bool = False,
        cancel_on_kill: bool = True,
        cancel_on_timeout: bool = True,
        on_unknown: str = "fail",
        on_clear: str = "reattach",
        settle: float | timedelta = 60.0,
        max_cost: Decimal | float | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**{"doc_md": _DOC_MD, **kwargs})
        self.model = model
        self.inputs = inputs
        self.files = files
        self.wiro_conn_id = wiro_conn_id
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = seconds(poll_interval)
        self.max_poll_interval = None if max_poll_interval is None else seconds(max_poll_interval)
        self.timeout = seconds(timeout)
        self.destination = destination
        self.verify = verify
        self.delete_remote = delete_remote
        self.reuse = reuse
        self.cancel_on_kill = cancel_on_kill
        self.cancel_on_timeout = cancel_on_timeout
        self.on_unknown = on_unknown
        self.on_clear = on_clear
        self.settle = seconds(settle)
        self.max_cost = max_cost
        self.check_arguments(
            model=model,
            inputs=inputs,
            wait_for_completion=wait_for_completion,
            poll_interval=poll_interval,
            max_poll_interval=max_poll_interval,
            timeout=timeout,
            settle=settle,
            max_cost=max_cost,
            on_unknown=on_unknown,
            on_clear=on_clear,
            verify=verify,
            delete_remote=delete_remote,
            reuse=reuse,
            files=files,
            destination=destination,
        )

    @classmethod
    def check_arguments(cls, **arguments: Any) -> None:
        """Check the arguments that are known when the Dag is parsed.

        :param arguments: some or all of the operator's arguments.
        :raises WiroConfigurationError: one of them is not allowed.
        """
        cls.check_seconds(arguments)
        if arguments.get("destination") is not None and not arguments.get("wait_for_completion"):
            raise WiroConfigurationError(
                "destination is given without wait_for_completion=True, and only an ended task has files.",
                advice="Set wait_for_completion=True, or fetch in a task of its own with WiroFetchOutputsOperator.",
            )
        check_destination(arguments.get("destination"))
        for name in ("delete_remote", "reuse"):
            if arguments.get(name) is True and arguments.get("destination") is None:
                raise WiroConfigurationError(f"{name} is True without a destination, where the files would be.")
        if arguments.get("reuse") is True and arguments.get("files"):
            raise WiroConfigurationError(
                "reuse is True with files, which are not looked into: requests cannot be equal."
            )
        cls.check_policies(arguments.get("on_unknown", "fail"), arguments.get("on_clear", "reattach"))
        check_verify(arguments.get("verify", "container"))
        amount_of("max_cost", arguments.get("max_cost"))
        cls.check_inputs(arguments)

    @classmethod
    def check_inputs(cls, arguments: Mapping[str, Any]) -> None:
        """Check the inputs among the arguments, as far as they are known.

        :param arguments: some or all of the operator's arguments.
        :raises WiroInputError: an input is not allowed.
        """
        model, inputs = arguments.get("model", Later()), arguments.get("inputs", Later())
        if not is_unresolved(model) and not re.fullmatch(r"[^/\s]+/[^/\s]+", str(model)):
            raise WiroConfigurationError(f"model is {model!r}, allowed: 'owner/name'.")
        if not is_unresolved(inputs) and not isinstance(inputs, Mapping):
            raise WiroConfigurationError(f"inputs is {inputs!r}, allowed: a mapping of input names and values.")
        if isinstance(model, str) and find_model(model) and isinstance(inputs, Mapping):
            wire_inputs(model, inputs, is_unresolved)

    def wire_inputs(self) -> dict[str, Any]:
        """Return the inputs as they are sent; every template is rendered by now.

        :raises WiroInputError: an input is not allowed.
        """
        if find_model(self.model) and isinstance(self.inputs, Mapping):
            return dict(wire_inputs(self.model, self.inputs))
        if not isinstance(self.inputs, Mapping):
            raise WiroConfigurationError(f"inputs is {self.inputs!r}, allowed: a mapping of input names and values.")
        return {name: _wire_form(value) for name, value in self.inputs.items() if value is not None}


def _wire_form(value: Any) -> Any:
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, (int, float)) else value

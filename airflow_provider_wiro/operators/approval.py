"""Ask a person before much is spent."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.providers.standard.operators.hitl import ApprovalOperator

from airflow_provider_wiro.api.seedance import DEFAULT_MODEL
from airflow_provider_wiro.exceptions import WiroConfigurationError, without_useless_retries
from airflow_provider_wiro.operators._budget import Estimate, dollars, estimate
from airflow_provider_wiro.operators.seedance import wire_videos
from airflow_provider_wiro.parsing import amount_of, is_unresolved
from airflow_provider_wiro.templating import DataFromOtherTasks

if TYPE_CHECKING:
    from airflow.sdk import Context

_ESTIMATE_KEY = "estimate"
_PROMPTS = 5  # that are shown
_PROMPT_LENGTH = 120
_DOC_MD = """\
Lets videos be ordered that are estimated to cost no more than `auto_approve_up_to`, and asks a person about more, under
*Required Actions*. **Approve** goes on; **Reject** skips what comes after.
"""


class WiroBudgetApprovalOperator(DataFromOtherTasks, ApprovalOperator):
    """Asks a person before videos are ordered that together cost more than an amount, or nobody can tell how much.

    While it waits, it holds no worker, no triggerer and no place in a pool. The question is a table of what is to be
    ordered and what it is estimated to cost, by the prices that Wiro tells of its models. It returns
    ``chosen_options``, ``params_input``, ``responded_at`` and ``responded_by_user`` as Airflow's ``ApprovalOperator``
    does, and ``videos`` (how many) and ``estimated_cost`` (US dollars, decimal string; ``None`` where a part is
    unknown). Where nobody is asked, it returns the same with the defaults of `params`, and nobody's name. After a
    rejection Airflow 3.3 keeps no return value. Each part is an XCom of its own, too:
    ``max_cost=approve.output["estimated_cost"]`` holds a batch to what was approved.

    :param videos: a mapping for each video, as for
        :class:`~airflow_provider_wiro.operators.seedance.SeedanceBatchOperator`. (templated)
    :param auto_approve_up_to: US dollars up to which nobody is asked; default 0: whatever costs something is asked
        about. (templated)
    :param model: the model of the videos that name none; default ``ByteDance/text-to-video-seedance-v1``. (templated)
    :param wiro_conn_id: the connection; default ``wiro_default``. (templated)
    :param body: markdown to show above the table; default none. (templated)
    :param kwargs: ``response_timeout``, ``defaults``, ``params``, ``assigned_users``, ``notifiers``,
        ``fail_on_reject``, … of Airflow's ``ApprovalOperator``; not ``subject``, which names count and amount.
    :raises WiroInputError: a video's inputs are not allowed; every fault is listed, and nobody is asked.
    :raises WiroConnectionError: Wiro does not tell its prices; a retry asks again.
    :raises AirflowFailException: in place of any error that a retry cannot mend; its text begins with the error's name.
    """

    template_fields: Sequence[str] = (
        *ApprovalOperator.template_fields,
        "videos",
        "auto_approve_up_to",
        "model",
        "wiro_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {"videos": "json", "body": "md"}
    custom_operator_name = "Wiro budget"
    ui_color = "#d9c7f7"

    def __init__(
        self,
        *,
        videos: Any,
        auto_approve_up_to: Decimal | float | str = 0,
        model: str = DEFAULT_MODEL,
        wiro_conn_id: str = "wiro_default",
        body: str | None = None,
        **kwargs: Any,
    ) -> None:
        # each fact is an XCom of its own, so that another task can take it by name
        defaults = {"doc_md": _DOC_MD, "multiple_outputs": True}
        super().__init__(**{**defaults, **kwargs}, subject="May these videos be ordered?", body=body)
        self.videos = videos
        self.auto_approve_up_to = auto_approve_up_to
        self.model = model
        self.wiro_conn_id = wiro_conn_id
        self._limit()
        if not is_unresolved(videos):
            wire_videos(videos, model, is_unresolved)

    def execute(self, context: Context) -> Any:
        """Go on, or ask and wait."""
        with without_useless_retries():
            limit = self._limit()
            if limit is None:
                raise WiroConfigurationError("auto_approve_up_to is None, allowed: US dollars, 0 or more.")
            orders = wire_videos(self.videos, self.model)
            found = self._estimate(orders)
        facts = {"videos": found.count, "estimated_cost": None if found.unknown else f"{found.known.normalize():f}"}
        if found.within(limit):
            self.log.info("Nobody is asked: %s, up to %s need no approval.", _sum(found), dollars(limit))
            nobody = {"responded_at": None, "responded_by_user": None}
            return {"chosen_options": [self.APPROVE], "params_input": self.params.dump(), **nobody, **facts}
        self.log.info("A person is asked: %s, up to %s need no approval.", _sum(found), dollars(limit))
        context["ti"].xcom_push(key=_ESTIMATE_KEY, value=facts)
        self.subject = f"Order {_sum(found)}?"
        self.body = "\n\n".join(part for part in (self.body, _table(found), _prompts(orders)) if part)
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> Any:
        """Go on with what was answered."""
        ti = context["ti"]
        facts = ti.xcom_pull(task_ids=ti.task_id, map_indexes=ti.map_index, key=_ESTIMATE_KEY) or {}
        return {**super().execute_complete(context, event), **facts}

    def _limit(self) -> Decimal | None:
        return amount_of("auto_approve_up_to", self.auto_approve_up_to)

    def _estimate(self, orders: Sequence[tuple[str, Mapping[str, Any]]]) -> Estimate:
        from airflow_provider_wiro.hooks.wiro import WiroHook

        return estimate(WiroHook(self.wiro_conn_id), orders)


def _sum(found: Estimate) -> str:
    videos = "1 video" if found.count == 1 else f"{found.count} videos"
    if found.unknown == found.count:
        return f"{videos} at an unknown price"
    if found.unknown:
        return f"{videos} for more than {dollars(found.known)}, of {found.unknown} the price is unknown"
    return f"{videos} for about {dollars(found.known)}"


def _table(found: Estimate) -> str:
    rows = ["| model | ordered | videos | each | together |", "|---|---|--:|--:|--:|"]
    for kind, count in found.kinds.items():
        each, together = ("unknown",) * 2 if kind.each is None else (dollars(kind.each), dollars(kind.each * count))
        rows.append(f"| {_plain(kind.model)} | {_plain(kind.what)} | {count} | {each} | {together} |")
    known = "unknown" if found.unknown else f"**{dollars(found.known)}**"
    rows.append(f"| **in all** | | **{found.count}** | | {known} |")
    return "\n".join([*rows, "", "Wiro bills what succeeds. *Reject* orders nothing."])


def _prompts(orders: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    told = [str(inputs["prompt"]) for _, inputs in orders if inputs.get("prompt")]
    rows = [f"{number}. {_plain(prompt)}" for number, prompt in enumerate(told[:_PROMPTS], 1)]
    more = [f"… and {len(told) - _PROMPTS} more"] if len(told) > _PROMPTS else []
    return "\n\n".join(part for part in ("\n".join(rows), *more) if part)


def _plain(text: str) -> str:
    """Return a text that markdown shows as it is: it may come from anybody's table."""
    line = " ".join(text.split())
    short = line if len(line) <= _PROMPT_LENGTH else line[: _PROMPT_LENGTH - 1] + "…"
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", short)

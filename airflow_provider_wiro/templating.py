"""What other tasks bring is data, never a template."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context


class DataFromOtherTasks:
    """For operators: keeps Airflow from rendering what `expand_kwargs` brings from another task.

    Airflow renders no value that comes by `expand` or as a plain XCom. By `expand_kwargs`, Airflow 3.3 does, so that
    braces in a prompt from a table would be lost or would run. See ``docs/airflow-quirks.md``.
    """

    def _do_render_template_fields(
        self,
        parent: Any,
        template_fields: Iterable[str],
        context: Context,
        jinja_env: jinja2.Environment,
        seen_oids: set[int],
    ) -> None:
        fields = list(template_fields)
        seen_oids |= _ids_of_data(parent, fields, context)
        super()._do_render_template_fields(parent, fields, context, jinja_env, seen_oids)  # type: ignore[misc]


def _ids_of_data(operator: Any, fields: Iterable[str], context: Context) -> set[int]:
    """Return the identities of the values that came by `expand_kwargs` from another task."""
    from airflow.sdk import XComArg
    from airflow.sdk.definitions.mappedoperator import MappedOperator

    definition = operator.dag.get_task(operator.task_id) if operator.has_dag() else None
    if not isinstance(definition, MappedOperator):
        return set()
    # A decorated function's own arguments are mapped apart from the operator's.
    brought = getattr(definition, "op_kwargs_expand_input", definition.expand_input).value
    if isinstance(brought, list):
        brought = brought[context["ti"].map_index or 0]
    if not isinstance(brought, XComArg):
        return set()
    present = {field: getattr(operator, field) for field in fields}
    return _ids(present) - _ids(definition.partial_kwargs) - {id(present.get("op_kwargs"))}


def _ids(arguments: Mapping[str, Any]) -> set[int]:
    """Return the identities of the arguments, and of those of a decorated function, one level deeper."""
    return {id(value) for value in (*arguments.values(), *(arguments.get("op_kwargs") or {}).values())}

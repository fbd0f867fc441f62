"""Buttons on Airflow's task instance page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


class WiroTaskLink(BaseOperatorLink):
    """Opens the remote task at Wiro.

    The operators push its address as soon as Wiro has accepted the run, so the button is there while the task waits.
    """

    name = "Wiro task"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the address that the operator pushed, or nothing."""
        from airflow.sdk.execution_time.xcom import XCom

        return str(XCom.get_value(ti_key=ti_key, key=self.xcom_key) or "")

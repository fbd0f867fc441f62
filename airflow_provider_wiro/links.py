"""Buttons on Airflow's task instance page, under *Details*."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from airflow.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator


class _Pushed(BaseOperatorLink):
    """A link whose address the operator pushes, so that the button is there while the task waits."""

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """Return the address that the operator pushed, or nothing."""
        from airflow.sdk.execution_time.xcom import XCom

        return str(XCom.get_value(ti_key=ti_key, key=self.xcom_key) or "")


class WiroTaskLink(_Pushed):
    """Opens the remote task at Wiro.

    The operators push its address as soon as Wiro has accepted the run, so the button is there while the task waits.
    """

    name = "Wiro task"


class WiroVideoLink(_Pushed):
    """Opens the tab "Videos" of the task instance, once there is one to watch."""

    name = "Watch"

    @staticmethod
    def address(ti: Any) -> str:
        """Return the address for a task instance: relative, so that no worker needs to know the UI's.

        :param ti: the task instance.
        """
        place = {"dag_id": ti.dag_id, "run_id": ti.run_id, "task_id": ti.task_id}
        mapped = {} if ti.map_index is None or ti.map_index < 0 else {"map_index": ti.map_index}
        return f"wiro/watch?{urlencode({**place, **mapped})}"

"""A local Wiro.

TODO
"""

from __future__ import annotations

from airflow_provider_wiro.emulator.local import LocalWiro

__all__ = ["LocalWiro"]

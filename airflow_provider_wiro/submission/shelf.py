"""The records of many orders of one Airflow task, in as few values of its task state store as hold them.

They belong in that store, and not on an object store beside the files: only a write to it fails for a process that
another try has superseded, and that failure is what keeps the process from ordering. A value there holds 64 KB at most
(Airflow 3.3), so each holds the records of a few dozen orders, and threads that write at the same time share a write.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from airflow_provider_wiro.exceptions import WiroStoreError
from airflow_provider_wiro.submission.record import Record

PER_VALUE = 64
"""Orders in one value: some 350 bytes each, and a reason of :data:`REASON` where it failed."""
REASON = 200
"""Characters that are kept of why an order failed."""
_LARGEST = 65_000  # bytes; Airflow 3.3 takes 65,535
_VERSION = 1


class Shelf:
    """Keeps the records of many orders, by their logical keys.

    :param read: returns the value of a name, ``None`` where there is none.
    :param write: stores a value durably under a name, or raises.
    """

    def __init__(self, read: Callable[[str], Any], write: Callable[[str, Any], None]) -> None:
        self._read = read
        self._write = write
        self._values: list[dict[str, Any]] = []
        self._place: dict[str, int] = {}
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._changes: list[int] = []
        self._written: list[int] = []

    def load(self) -> None:
        """Read everything that is stored.

        :raises WiroStoreError: the store cannot be read, or holds what this version does not understand.
        """
        self._values.clear()
        self._place.clear()
        while (stored := self._read(self._name(len(self._values)))) is not None:
            if not isinstance(stored, Mapping) or stored.get("v") != _VERSION:
                raise WiroStoreError("The records of this batch are not of this version.", retryable=False)
            orders = dict(stored["orders"])
            self._place |= dict.fromkeys(orders, len(self._values))
            self._values.append(orders)
        self._changes = [0] * len(self._values)
        self._written = list(self._changes)

    def records(self) -> dict[str, Record]:
        """Return the records of all orders that are known, by their logical keys.

        :raises ValueError: one of them cannot be read.
        """
        return {key: Record.from_json(self.record(key)) for key in self._place}

    def add(self, records: Iterable[Record]) -> None:
        """Store the first records of orders, in as few writes as hold them.

        :raises WiroStoreError: nothing is known to be stored.
        """
        touched = set()
        with self._lock:
            for record in records:
                if not self._values or len(self._values[-1]) >= PER_VALUE:
                    self._values.append({})
                    self._changes.append(0)
                    self._written.append(0)
                self._place[record.key] = len(self._values) - 1
                self._values[-1][record.key] = {"record": record.to_json()}
                touched.add(len(self._values) - 1)
        for number in sorted(touched):
            self._store(number)

    def record(self, key: str) -> Any:
        """Return an order's record as it is stored, or ``None``."""
        return self._entry(key).get("record")

    def failure(self, key: str) -> Mapping[str, Any] | None:
        """Return what was noted last with :meth:`fail`."""
        found = self._entry(key).get("failed")
        return found if isinstance(found, Mapping) else None

    def set_record(self, key: str, record: Mapping[str, Any]) -> None:
        """Store an order's record.

        :raises WiroStoreError: it is not known to be stored.
        """
        self._change(key, "record", dict(record))

    def fail(self, key: str, failure: Mapping[str, Any]) -> None:
        """Note why an order failed in this try.

        :raises WiroStoreError: it is not known to be stored.
        """
        self._change(key, "failed", {name: _short(value) for name, value in failure.items()})

    def ids(self, but: str) -> frozenset[str]:
        """Return Wiro's ids of all orders but one."""
        with self._lock:
            entries = [entry for value in self._values for key, entry in value.items() if key != but]
        return frozenset(str(entry["record"]["wiro_task_id"]) for entry in entries if entry["record"]["wiro_task_id"])

    def store_of(self, key: str) -> OneOrder:
        """Return the store of one order, as :class:`~airflow_provider_wiro.submission.driver.Submission` wants it."""
        return OneOrder(self, key)

    def _entry(self, key: str) -> Mapping[str, Any]:
        number = self._place.get(key)
        return {} if number is None else self._values[number].get(key, {})

    def _change(self, key: str, name: str, content: Any) -> None:
        if key not in self._place:
            self.add([Record.from_json(content)])
            return
        number = self._place[key]
        with self._lock:
            entry = self._values[number][key]
            before = entry.get(name)
            self._values[number][key] = {**entry, name: content}
            self._changes[number] += 1
            change = self._changes[number]
        try:
            self._store(number, change)
        except BaseException:
            with self._lock:
                self._values[number][key] = {**self._values[number][key], name: before}
            raise

    def _store(self, number: int, change: int = 0) -> None:
        """Write one value; return at once where another thread's write has taken the change along."""
        with self._writing:
            with self._lock:
                if change and self._written[number] >= change:
                    return
                orders, changes = dict(self._values[number]), self._changes[number]
            value = {"v": _VERSION, "orders": orders}
            size = len(json.dumps(value).encode())
            if size > _LARGEST:
                raise WiroStoreError(
                    f"The records of {len(orders)} orders have {size} bytes, allowed: {_LARGEST}.", retryable=False
                )
            self._write(self._name(number), value)
            self._written[number] = changes

    @staticmethod
    def _name(number: int) -> str:
        return f"wiro_{number}"


class OneOrder:
    """The place of one order on the shelf.

    :param shelf: the shelf.
    :param key: the order's logical key.
    """

    def __init__(self, shelf: Shelf, key: str) -> None:
        self._shelf = shelf
        self._key = key

    def get(self) -> Any:
        """Return the record, or ``None``."""
        return self._shelf.record(self._key)

    def set(self, value: Mapping[str, Any]) -> None:
        """Store the record.

        :raises WiroStoreError: it is not known to be stored.
        """
        self._shelf.set_record(self._key, value)


def _short(value: Any) -> Any:
    return value if not isinstance(value, str) or len(value) <= REASON else value[: REASON - 1] + "…"

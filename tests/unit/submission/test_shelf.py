"""The shelf: many orders' records in few values, and none of them believed that is not stored."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from airflow_provider_wiro.exceptions import WiroStoreError
from airflow_provider_wiro.submission.record import Phase, Record
from airflow_provider_wiro.submission.shelf import PER_VALUE, REASON, Shelf


class Store:
    """A task state store, as far as a shelf sees it."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}
        self.writes: list[str] = []
        self.down = False
        self.gate = threading.Event()
        self.gate.set()

    def read(self, name: str) -> Any:
        text = self.values.get(name)
        return None if text is None else json.loads(text)

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        self.gate.wait(10)
        if self.down:
            raise WiroStoreError("no api-server")
        self.writes.append(name)
        self.values[name] = json.dumps(value)


def record(number: int, **changes: Any) -> Record:
    return Record(f"key-{number}", Phase.OPEN, max_tries=1, try_number=1, **changes)


def shelf_of(store: Store, count: int) -> Shelf:
    shelf = Shelf(store.read, store.write)
    shelf.load()
    shelf.add(record(number) for number in range(count))
    return shelf


def test_a_thousand_records_take_few_values_and_are_found_again() -> None:
    store = Store()
    shelf_of(store, 1000)
    assert len(store.writes) == len(store.values) == -(-1000 // PER_VALUE)
    assert max(len(text) for text in store.values.values()) < 65_535
    again = Shelf(store.read, store.write)
    again.load()
    assert again.records() == {f"key-{number}": record(number) for number in range(1000)}


def test_what_comes_later_fills_the_last_value_first() -> None:
    store = Store()
    shelf_of(store, PER_VALUE - 1)
    shelf = Shelf(store.read, store.write)
    shelf.load()
    shelf.add([record(PER_VALUE), record(PER_VALUE + 1)])
    assert [len(store.read(name)["orders"]) for name in ("wiro_0", "wiro_1")] == [PER_VALUE, 1]


def test_every_value_holds_records_and_reasons_of_their_largest() -> None:
    store = Store()
    shelf = shelf_of(store, PER_VALUE)
    for number in range(PER_VALUE):
        sent = record(number).accepted("f3b1c2d4-aaaa-bbbb-cccc-0123456789ab", 1_790_000_000.123456)
        shelf.set_record(f"key-{number}", sent.to_json())
        shelf.fail(f"key-{number}", {"try": "1/1", "error": "x" * 5000, "retryable": True})
    assert len(store.values) == 1


def test_threads_that_write_at_the_same_time_share_writes() -> None:
    store = Store()
    shelf = shelf_of(store, 32)
    store.writes.clear()
    store.gate.clear()
    with ThreadPoolExecutor(32) as threads:
        changes = [
            threads.submit(shelf.set_record, f"key-{number}", record(number).accepted(f"task-{number}", 1.0).to_json())
            for number in range(32)
        ]
        store.gate.set()
        for change in changes:
            change.result(10)
    assert 1 <= len(store.writes) < 32
    stored = store.read("wiro_0")["orders"]
    assert {entry["record"]["wiro_task_id"] for entry in stored.values()} == {f"task-{n}" for n in range(32)}


def test_set_returns_only_when_its_own_change_is_stored() -> None:
    store = Store()
    shelf = shelf_of(store, 2)
    store.gate.clear()
    with ThreadPoolExecutor(2) as threads:
        change = threads.submit(shelf.set_record, "key-1", record(1).accepted("task-1", 1.0).to_json())
        with pytest.raises(TimeoutError):
            change.result(0.2)
        store.gate.set()
        change.result(10)
    assert store.read("wiro_0")["orders"]["key-1"]["record"]["wiro_task_id"] == "task-1"


def test_what_could_not_be_stored_is_not_believed() -> None:
    store = Store()
    shelf = shelf_of(store, 2)
    store.down = True
    with pytest.raises(WiroStoreError):
        shelf.set_record("key-0", record(0).accepted("task-0", 1.0).to_json())
    with pytest.raises(WiroStoreError):
        shelf.fail("key-1", {"try": "1/1", "error": "no", "retryable": True})
    assert Record.from_json(shelf.record("key-0")) == record(0)
    assert shelf.failure("key-1") is None
    store.down = False
    shelf.set_record("key-1", record(1).accepted("task-1", 1.0).to_json())
    assert store.read("wiro_0")["orders"]["key-0"]["record"]["wiro_task_id"] is None


def test_first_records_that_cannot_be_stored_raise() -> None:
    store = Store()
    store.down = True
    shelf = Shelf(store.read, store.write)
    shelf.load()
    with pytest.raises(WiroStoreError):
        shelf.add([record(0)])
    assert store.values == {}


def test_a_value_that_is_too_large_is_refused_before_airflow_refuses_it() -> None:
    store = Store()
    shelf = shelf_of(store, 2)
    store.writes.clear()
    long = record(0, history=tuple(f"{number:036d}" for number in range(2000)))
    with pytest.raises(WiroStoreError, match="allowed: 65000") as refused:
        shelf.set_record("key-0", long.to_json())
    assert refused.value.retryable is False
    assert store.writes == []


def test_a_note_of_a_failure_is_kept_short_and_beside_the_record() -> None:
    store = Store()
    shelf = shelf_of(store, 1)
    shelf.fail("key-0", {"try": "1/1", "error": "y" * 1000, "retryable": False})
    again = Shelf(store.read, store.write)
    again.load()
    note = again.failure("key-0")
    assert note is not None
    assert (note["try"], note["retryable"], len(note["error"])) == ("1/1", False, REASON)
    assert note["error"].endswith("y…")
    assert Record.from_json(again.record("key-0")) == record(0)


def test_the_ids_of_all_others_are_told() -> None:
    shelf = shelf_of(Store(), 3)
    for number in (0, 1):
        shelf.set_record(f"key-{number}", record(number).accepted(f"task-{number}", 1.0).to_json())
    assert shelf.ids(but="key-0") == {"task-1"}
    assert shelf.ids(but="key-2") == {"task-0", "task-1"}


def test_the_store_of_one_order_reads_and_writes_that_order_only() -> None:
    store = Store()
    shelf = shelf_of(store, 2)
    one = shelf.store_of("key-1")
    one.set(record(1).accepted("task-1", 1.0).to_json())
    assert one.get()["wiro_task_id"] == "task-1"
    assert Record.from_json(shelf.record("key-0")) == record(0)
    assert shelf.store_of("key-7").get() is None


def test_an_order_that_is_new_is_added() -> None:
    store = Store()
    shelf = shelf_of(store, 1)
    shelf.store_of("key-5").set(record(5).to_json())
    assert set(store.read("wiro_0")["orders"]) == {"key-0", "key-5"}


@pytest.mark.parametrize("stored", ["a word", {"v": 2, "orders": {}}, {"orders": {}}, []])
def test_what_another_version_has_stored_is_refused(stored: Any) -> None:
    store = Store()
    store.values["wiro_0"] = json.dumps(stored)
    shelf = Shelf(store.read, store.write)
    with pytest.raises(WiroStoreError, match="not of this version") as refused:
        shelf.load()
    assert refused.value.retryable is False

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_wiro.api.tasks import (
    RUNNING_STATUSES,
    TERMINAL_STATUSES,
    Outcome,
    RunReceipt,
    WiroOutput,
    WiroTask,
    ensure_succeeded,
    outcome_of,
)
from airflow_provider_wiro.exceptions import WiroTaskCancelledError, WiroTaskFailedError

# R running, S succeeded, F failed, C cancelled. Columns: pexit missing, "0", "1", "137", the number 0; each without and
# with an output.
OUTCOMES = """
                        missing  "0"   "1"   "137"   0
task_queue              R  R    R  R   R  R   R  R   R  R
task_accept             R  R    R  R   R  R   R  R   R  R
task_assign             R  R    R  R   R  R   R  R   R  R
task_preprocess_start   R  R    R  R   R  R   R  R   R  R
task_preprocess_end     R  R    R  R   R  R   R  R   R  R
task_start              R  R    R  R   R  R   R  R   R  R
task_output             R  R    R  R   R  R   R  R   R  R
task_output_full        R  R    R  R   R  R   R  R   R  R
task_error_full         R  R    R  R   R  R   R  R   R  R
task_end                R  R    R  R   R  R   R  R   R  R
task_postprocess_start  R  R    R  R   R  R   R  R   R  R
task_stream_ready       R  R    R  R   R  R   R  R   R  R
task_stream_end         R  R    R  R   R  R   R  R   R  R
task_cost               R  R    R  R   R  R   R  R   R  R
task_postprocess_end    F  S    S  S   F  F   F  F   S  S
task_error              F  F    F  F   F  F   F  F   F  F
task_cancel             C  C    C  C   C  C   C  C   C  C
task_rehearsal          R  R    R  R   R  R   R  R   R  R
TASK_POSTPROCESS_END    R  R    R  R   R  R   R  R   R  R
"""
LETTERS = {"R": Outcome.RUNNING, "S": Outcome.SUCCEEDED, "F": Outcome.FAILED, "C": Outcome.CANCELLED}
FILE = {"name": "0.mp4", "contenttype": "video/mp4", "size": "5", "url": "https://cdn1.wiro.ai/x/0.mp4"}


def outcome_rows() -> Iterator[tuple[str, Any, list[dict[str, str]], Outcome]]:
    columns = [(pexit, outputs) for pexit in (None, "0", "1", "137", 0) for outputs in ([], [FILE])]
    for line in OUTCOMES.strip().splitlines()[1:]:
        status, *letters = line.split()
        for (pexit, outputs), letter in zip(columns, letters, strict=True):
            yield status, pexit, outputs, LETTERS[letter]


# The shape of the tool sheet's sample, with values of our own: no pexit, no cost, no model, empty parameters.
SAMPLE: dict[str, Any] = {
    "total": "1",
    "errors": [],
    "tasklist": [
        {
            "id": "8764",
            "uuid": "0b6c51fc-9a77-4d3e-8c0a-6a0c9b1f2d3e",
            "socketaccesstoken": "tOkEnOfThEtAsK0123456789abcdef",
            "parameters": {},
            "debugoutput": "",
            "debugerror": "",
            "starttime": "1745000009",
            "endtime": "1745000013",
            "elapsedseconds": "6.0000",
            "status": "task_postprocess_end",
            "createtime": "1745000007",
            "canceltime": "0",
            "assigntime": "1745000007",
            "accepttime": "1745000007",
            "preprocessstarttime": "1745000007",
            "preprocessendtime": "1745000007",
            "postprocessstarttime": "1745000013",
            "postprocessendtime": "1745000014",
            "outputs": [
                {
                    "id": "00112233445566778899aabbccddeeff",
                    "name": "0.png",
                    "contenttype": "image/png",
                    "parentid": "ffeeddccbbaa99887766554433221100",
                    "uuid": "0b6c51fc-9a77-4d3e-8c0a-6a0c9b1f2d3e",
                    "size": "202472",
                    "addedtime": "1745000012",
                    "modifiedtime": "1745000012",
                    "accesskey": "aCcEsSkEy",
                    "url": "https://cdn1.wiro.ai/01-02-03/0.png",
                }
            ],
            "size": "202472",
        }
    ],
    "result": True,
}


@pytest.mark.parametrize(("status", "pexit", "outputs", "expected"), list(outcome_rows()))
def test_outcome_of_every_status(status: str, pexit: Any, outputs: list[dict[str, str]], expected: Outcome) -> None:
    task = WiroTask.from_api({"id": "1", "status": status, "pexit": pexit, "outputs": outputs})

    assert task.outcome is expected
    assert outcome_of(status, None if pexit is None else str(pexit), bool(outputs)) is expected


def test_every_documented_status_is_known_and_only_those() -> None:
    rows = {status for status, *_ in outcome_rows()}
    unknown = {"task_rehearsal", "TASK_POSTPROCESS_END"}

    assert rows - unknown == RUNNING_STATUSES | TERMINAL_STATUSES
    for status in rows:
        assert WiroTask("1", status).is_known_status is (status not in unknown)


def test_missing_pexit_is_read_from_outputs() -> None:
    ended = {"id": "1", "status": "task_postprocess_end"}

    assert WiroTask.from_api({**ended, "outputs": [FILE]}).outcome is Outcome.SUCCEEDED
    assert WiroTask.from_api(ended).outcome is Outcome.FAILED
    # The local Wiro, like forms, may send an empty text for what is not there.
    assert WiroTask.from_api({**ended, "pexit": "", "outputs": [FILE]}).outcome is Outcome.SUCCEEDED
    assert WiroTask.from_api({**ended, "pexit": " 0 "}).outcome is Outcome.SUCCEEDED


def test_outcomes_tell_whether_polling_can_stop() -> None:
    assert {outcome for outcome in Outcome if not outcome.is_terminal} == {Outcome.RUNNING}


def test_the_sample_of_the_tool_sheet() -> None:
    (entry,) = SAMPLE["tasklist"]
    task = WiroTask.from_api(entry)

    assert task == WiroTask(
        wiro_task_id="8764",
        status="task_postprocess_end",
        pexit=None,
        model=None,
        inputs={},
        outputs=(WiroOutput("0.png", "image/png", 202472, "https://cdn1.wiro.ai/01-02-03/0.png"),),
        total_cost=None,
        elapsed_seconds=6.0,
        created_at=1745000007,
        reason="",
        task_token="tOkEnOfThEtAsK0123456789abcdef",
    )
    assert task.outcome is Outcome.SUCCEEDED


def test_numbers_may_be_numbers() -> None:
    task = WiroTask.from_api(
        {
            "id": 8764,
            "status": "task_postprocess_end",
            "pexit": 0,
            "elapsedseconds": 6,
            "createtime": 1745000007,
            "totalcost": 0.1,
            "modelslugowner": "ByteDance",
            "modelslugproject": "seedance-pro-v1",
            "outputs": [{**FILE, "size": 5}],
            "parameters": {"seed": 7},
        }
    )

    assert (task.wiro_task_id, task.outcome, task.elapsed_seconds) == ("8764", Outcome.SUCCEEDED, 6.0)
    assert (task.created_at, task.total_cost) == (1745000007, Decimal("0.1"))
    assert task.model == "ByteDance/seedance-pro-v1"
    assert task.outputs[0].size == 5
    assert task.inputs == {"seed": 7}


@pytest.mark.parametrize(
    ("field", "value", "attribute", "expected"),
    [
        ("id", None, "wiro_task_id", ""),
        ("id", [], "wiro_task_id", ""),
        ("taskid", "77", "wiro_task_id", "77"),
        ("status", None, "status", ""),
        ("status", 5, "status", "5"),
        ("status", " task_cancel\n", "status", "task_cancel"),
        ("pexit", {}, "pexit", None),
        ("pexit", "  ", "pexit", None),
        ("modelslugowner", "only-half", "model", None),
        ("parameters", [], "inputs", {}),
        ("parameters", "{}", "inputs", {}),
        ("parameters", None, "inputs", {}),
        ("outputs", None, "outputs", ()),
        ("outputs", {}, "outputs", ()),
        ("outputs", ["text", None, 5], "outputs", ()),
        ("totalcost", "0.100000000000", "total_cost", Decimal("0.1")),
        ("totalcost", "NaN", "total_cost", None),
        ("totalcost", "Infinity", "total_cost", None),
        ("totalcost", "1e999999", "total_cost", None),
        ("totalcost", "1e9999999999999999999999", "total_cost", None),
        ("totalcost", "", "total_cost", None),
        ("totalcost", "free", "total_cost", None),
        ("totalcost", True, "total_cost", None),
        ("totalcost", [1], "total_cost", None),
        ("elapsedseconds", "6.0000", "elapsed_seconds", 6.0),
        ("elapsedseconds", "1e999999", "elapsed_seconds", None),
        ("elapsedseconds", float("nan"), "elapsed_seconds", None),
        ("elapsedseconds", float("inf"), "elapsed_seconds", None),
        ("elapsedseconds", {"a": 1}, "elapsed_seconds", None),
        ("createtime", "1745000007.9", "created_at", 1745000007),
        ("createtime", "1e999999", "created_at", None),
        ("createtime", "-1e999999", "created_at", None),
        ("createtime", "sNaN", "created_at", None),
        ("createtime", "9" * 6000, "created_at", None),
        ("createtime", None, "created_at", None),
        ("debugerror", None, "reason", ""),
        ("debugerror", ["a"], "reason", ""),
        ("debugerror", "\n\n one \n\ntwo\nthree\nfour\n", "reason", "two three four"),
        ("debugerror", "x" * 600, "reason", "x" * 500),
        ("debugoutput", "last words", "reason", "last words"),
        ("socketaccesstoken", "", "task_token", None),
    ],
)
def test_odd_values_are_read(field: str, value: Any, attribute: str, expected: Any) -> None:
    started = time.monotonic()

    assert getattr(WiroTask.from_api({field: value}), attribute) == expected
    assert time.monotonic() - started < 1


HOSTILE: list[Any] = [
    None,
    True,
    0,
    -1,
    10**400,
    1.5,
    float("nan"),
    float("-inf"),
    "",
    "NaN",
    "1e999999",
    "\ud800\x00\u202e",
    "x" * 100_000,
    [],
    [[]],
    [None],
    [{"size": {}, "url": [], "name": 5, "contenttype": None}],
    {},
    {"a": {"b": []}},
]
FIELDS = [
    *("id", "taskid", "status", "pexit", "modelslugowner", "modelslugproject", "parameters", "outputs"),
    *("totalcost", "elapsedseconds", "createtime", "debugerror", "debugoutput", "socketaccesstoken"),
]


@pytest.mark.parametrize("field", FIELDS)
def test_no_value_of_any_field_raises(field: str) -> None:
    good = {"id": "1", "status": "task_start", "pexit": "0", "createtime": "5", "totalcost": "1"}
    for value in HOSTILE:
        task = WiroTask.from_api({**good, field: value})

        assert isinstance(task.outcome, Outcome)
        assert isinstance(task.wiro_task_id, str)
        assert task.total_cost is None or task.total_cost.is_finite()
        assert all(isinstance(output, WiroOutput) for output in task.outputs)


@pytest.mark.parametrize("field", ["name", "contenttype", "size", "url", "content"])
def test_no_value_of_any_field_of_an_output_raises(field: str) -> None:
    for value in HOSTILE:
        output = WiroOutput.from_api({**FILE, field: value})

        assert isinstance(output.name, str)
        assert isinstance(output.content_type, str)
        assert output.size is None or isinstance(output.size, int)
        assert output.url is None or isinstance(output.url, str)


def test_raw_output() -> None:
    content = {"prompt": "p", "answer": ["a", {"b": None}]}
    task = WiroTask.from_api({"id": "1", "outputs": [{"contenttype": "raw", "content": content}, FILE]})

    assert task.outputs[0] == WiroOutput("", "raw", None, None, content)
    assert task.outputs[1].url == FILE["url"]


def test_an_empty_answer_is_a_running_task_without_an_id() -> None:
    task = WiroTask.from_api({})

    assert (task.wiro_task_id, task.outcome, task.is_known_status) == ("", Outcome.RUNNING, False)


def test_tokens_and_inputs_are_not_shown() -> None:
    task = WiroTask.from_api(
        {"id": "1", "socketaccesstoken": "capability", "parameters": {"prompt": "confidential"}, "debugerror": "trace"}
    )

    for shown in (repr(task), repr(RunReceipt("1", "capability"))):
        for hidden in ("capability", "confidential", "trace"):
            assert hidden not in shown


@pytest.mark.parametrize(
    ("status", "pexit", "debugerror", "words"),
    [
        ("task_postprocess_end", "137", "Killed: out of memory", ["task_postprocess_end", "137", "out of memory"]),
        ("task_postprocess_end", None, "", ["task_postprocess_end", "no reason"]),
        ("task_error", None, "no worker", ["task_error", "no worker"]),
    ],
)
def test_a_failed_task_raises_with_its_reason_and_id(
    status: str, pexit: str | None, debugerror: str, words: list[str]
) -> None:
    task = WiroTask.from_api({"id": "4711", "status": status, "pexit": pexit, "debugerror": debugerror})

    with pytest.raises(WiroTaskFailedError) as caught:
        ensure_succeeded(task)

    for word in (*words, "4711", "not billed"):
        assert word in str(caught.value)
    assert caught.value.wiro_task_id == "4711"
    assert caught.value.retryable


def test_a_cancelled_task_raises_with_its_id() -> None:
    with pytest.raises(WiroTaskCancelledError, match="4711") as caught:
        ensure_succeeded(WiroTask("4711", "task_cancel"))

    assert caught.value.wiro_task_id == "4711"
    assert not caught.value.retryable


def test_a_task_that_succeeded_does_not_raise() -> None:
    task = WiroTask.from_api({"id": "1", "status": "task_postprocess_end", "pexit": "0"})
    ensure_succeeded(task)

    assert task.outcome is Outcome.SUCCEEDED


def test_a_task_survives_json_of_any_number() -> None:
    read = json.loads('{"id": 1, "totalcost": NaN, "elapsedseconds": -Infinity, "createtime": 1e400}')
    task = WiroTask.from_api(read)

    assert (task.total_cost, task.elapsed_seconds, task.created_at) == (None, None, None)

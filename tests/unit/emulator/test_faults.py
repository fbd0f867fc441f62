from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
import requests

from airflow_provider_wiro.emulator import LocalWiro
from airflow_provider_wiro.emulator.faults import KINDS, Faults, FaultSpecError, parse_fault
from tests.unit.emulator.support import SEEDANCE, VIDEO, Caller

RUN = f"Run/{SEEDANCE}"
HANG: dict[str, Any] = {"prompt": "A kite [wiro:hang]"}

# How they are written


def test_a_specification_is_read() -> None:
    fault = parse_fault("run:late:rate=0.25:times=3:seconds=1.5:match=a:b=c")
    assert (fault.point, fault.kind, fault.rate, fault.times) == ("run", "late", 0.25, 3)
    assert (fault.seconds, fault.match) == (1.5, "a:b=c")
    assert parse_fault("list:rate_limit").seconds == 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "is not one of the points run, detail"),
        ("walk:error", "is not one of the points run, detail"),
        ("run", "is not one of run's kinds error_before"),
        ("run:off", "is not one of run's kinds error_before"),
        ("detail:late", "is not one of detail's kinds error"),
        ("run:slow:rate=2", "rate must be a number from 0 to 1, not '2'"),
        ("run:slow:rate=x", "rate must be a number"),
        ("run:slow:times=0", "times must be a number from 1"),
        ("run:slow:times=1.5", "times must be a whole number"),
        ("run:slow:seconds=-1", "seconds must be a number from 0 to 3600"),
        ("run:html:seconds=1", "is not one of the options rate, times, match"),
        ("list:slow:match=x", "is not one of the options rate, times, seconds"),
        ("run:slow:rate=1:rate=1", "is not one of the options"),
        ("run:slow:hard", "is not one of the options"),
    ],
)
def test_a_wrong_specification_says_what_is_allowed(spec: str, message: str) -> None:
    with pytest.raises(FaultSpecError) as wrong:
        parse_fault(spec)
    assert message in str(wrong.value)


def test_rates_hit_the_same_requests_with_the_same_seed() -> None:
    def hits(seed: int) -> list[bool]:
        faults = Faults(["detail:error:rate=0.3"], seed)
        return [faults.pick("detail") is not None for _ in range(1000)]

    assert hits(1) == hits(1) != hits(2)
    assert 240 < sum(hits(1)) < 360


def test_times_end_a_fault_and_the_first_of_several_happens() -> None:
    faults = Faults(["list:html:times=2", "any:error"])
    happened = []
    for _ in range(4):
        fault = faults.pick("list")
        assert fault is not None
        faults.happen(fault, "list")
        happened.append(fault.kind)
    assert happened == ["html", "html", "error", "error"]
    assert faults.happened == {"list:html": 2, "list:error": 2}
    assert faults.pick("echo") is None


def test_each_of_several_rates_at_a_point_gets_its_share() -> None:
    shares = {
        "error_before": 0.04,
        "error_after": 0.02,
        "reset_before": 0.02,
        "reset_after": 0.03,
        "rate_limit": 0.03,
        "late": 0.02,
        "slow": 0.04,
    }
    faults = Faults([f"run:{kind}:rate={share}" for kind, share in shares.items()])
    for _ in range(10_000):
        if (fault := faults.pick("run")) is not None:
            faults.happen(fault, "run")
    for kind, share in shares.items():
        # The ones before it take at most a fifth of it.
        assert 0.75 * share < faults.happened[f"run:{kind}"] / 10_000 < 1.2 * share


# What they do. Each of these sees one fault over real HTTP.


def outcome(ask: Callable[[], requests.Response]) -> str:
    try:
        answer = ask()
    except requests.ConnectionError as broken:
        return "reset" if "reset by peer" in str(broken) else f"broken: {broken}"
    try:
        return f"{answer.status_code} {'granted' if answer.json()['result'] else 'refused'}"
    except ValueError:
        return f"{answer.status_code} {answer.headers.get('content-type', '-').split(';')[0]}"


@pytest.mark.parametrize(
    ("kind", "expected", "accepted"),
    [
        ("error_before", "500 text/html", 0),
        ("error_after", "502 text/html", 1),
        ("reset_before", "reset", 0),
        ("reset_after", "reset", 1),
        ("rate_limit", "429 refused", 0),
        ("slow:seconds=0.2", "200 granted", 1),
        ("truncated", "200 application/json", 1),
        ("html", "200 text/html", 0),
        ("redirect", "307 -", 0),
    ],
)
def test_a_run_goes_wrong(caller: Caller, kind: str, expected: str, accepted: int) -> None:
    caller.wiro.set_faults([f"run:{kind}"])
    started = time.monotonic()
    assert outcome(lambda: caller.post(RUN, HANG)) == expected
    assert ("slow" in kind) == (time.monotonic() - started >= 0.2)
    ledger = caller.wiro.ledger()
    assert len(ledger["runs"]) == accepted
    assert ledger["faults"] == {f"run:{kind.split(':')[0]}": 1}


def test_a_run_is_accepted_late_and_reset_forgets_it(caller: Caller) -> None:
    caller.wiro.set_faults(["run:late:seconds=0.2"])
    for keep in (True, False):
        assert outcome(lambda: caller.post(RUN, HANG)) == "reset"
        assert caller.wiro.ledger()["runs"] == []
        if not keep:
            caller.wiro.reset()
        time.sleep(0.35)
        assert len(caller.wiro.ledger()["runs"]) == keep
        caller.wiro.reset()
        caller.wiro.set_faults(["run:late:seconds=0.2"])


def test_a_late_run_that_is_refused_is_refused_at_once(caller: Caller) -> None:
    caller.wiro.set_faults(["run:late"])
    assert caller.refusal(RUN, {"prompt": ""})[2] == "Request parameter [prompt] required"
    assert caller.wiro.ledger()["faults"] == {}


def test_a_refused_run_is_refused_whatever_was_to_happen_after_it(caller: Caller) -> None:
    caller.wiro.set_faults(["run:error_after"])
    assert caller.refusal(RUN, {"prompt": ""})[2] == "Request parameter [prompt] required"
    assert caller.wiro.ledger()["faults"] == {}


def test_match_chooses_runs_by_prompt(caller: Caller) -> None:
    caller.wiro.set_faults(["run:html:match=blue kite"])
    assert caller.run(prompt="A red kite [wiro:hang]")
    assert outcome(lambda: caller.post(RUN, {"prompt": "A blue kite"})) == "200 text/html"


def test_faults_never_let_a_stranger_in(caller: Caller) -> None:
    caller.wiro.set_faults(["any:html"])
    assert caller.post("Task/List", headers={}).status_code == 401
    assert outcome(lambda: caller.post("Task/List")) == "200 text/html"


@pytest.mark.parametrize("point", ["detail", "list", "cancel", "kill", "tool"])
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("error", "500 text/html"),
        ("reset", "reset"),
        ("slow:seconds=0.1", "200 granted"),
        ("rate_limit:seconds=7", "429 refused"),
        ("truncated", "200 application/json"),
        ("html", "200 text/html"),
        ("redirect", "307 -"),
    ],
)
def test_other_endpoints_go_wrong(caller: Caller, point: str, kind: str, expected: str) -> None:
    # On a fast server only what takes very long is still queued when it is to be cancelled.
    taskid = caller.run(prompt="A kite [wiro:slow=999999]" if point == "cancel" else "A kite [wiro:hang]")
    if point != "cancel":
        caller.wait(taskid, "task_output")
    path, body = {
        "detail": ("Task/Detail", {"taskid": taskid}),
        "list": ("Task/List", {}),
        "cancel": ("Task/Cancel", {"taskid": taskid}),
        "kill": ("Task/Kill", {"taskid": taskid}),
        "tool": ("Tool/List", {}),
    }[point]
    caller.wiro.set_faults([f"{point}:{kind}"])
    seen: list[requests.Response] = []

    def ask() -> requests.Response:
        seen.append(caller.post(path, body))
        return seen[0]

    assert outcome(ask) == expected
    assert caller.wiro.ledger()["faults"] == {f"{point}:{kind.split(':')[0]}": 1}
    if kind.startswith("rate_limit"):
        assert seen[0].headers["retry-after"] == "7"
    if point in ("cancel", "kill"):
        done = kind.startswith(("slow", "truncated"))
        assert sum(caller.wiro.ledger()["stops"].values()) == done


def test_a_redirect_leads_elsewhere_and_followers_are_counted(caller: Caller) -> None:
    caller.wiro.set_faults(["list:redirect"])
    target = caller.post("Task/List").headers["location"]
    assert target.startswith("http://localhost:")
    assert "elsewhere" not in caller.wiro.ledger()["calls"]
    assert requests.post(target, json={}, timeout=5).status_code == 403
    assert caller.wiro.ledger()["calls"]["elsewhere"] == 1


def test_the_list_can_be_off(caller: Caller) -> None:
    caller.wiro.set_faults(["list:off:times=1"])
    assert caller.refusal("Task/List") == (200, 0, "You don't have any permission for this action.")
    assert caller.ask("Task/List")["result"] is True


def test_a_new_task_can_be_unknown_for_a_while(caller: Caller) -> None:
    caller.wiro.set_faults(["detail:early:seconds=0.3"])
    taskid = caller.run(**HANG)
    assert caller.refusal("Task/Detail", {"taskid": taskid}) == (200, 1, "There is no task yet.")
    time.sleep(0.3)
    assert caller.task(taskid)["id"] == taskid


@pytest.mark.parametrize("point", ["detail", "list"])
def test_the_exit_code_can_be_missing(caller: Caller, point: str) -> None:
    task = caller.video()
    assert task["pexit"] == "0"
    caller.wiro.set_faults([f"{point}:no_pexit"])
    path = "Task/Detail" if point == "detail" else "Task/List"
    (shown,) = caller.ask(path, taskid=task["id"])["tasklist"]
    assert "pexit" not in shown
    assert shown["outputs"] == task["outputs"]


def test_prices_can_be_missing(caller: Caller) -> None:
    model = {"slugowner": "ByteDance", "slugproject": "text-to-video-seedance-v1"}
    caller.wiro.set_faults(["tool:no_prices:times=1"])
    (first,), (second,) = (caller.ask("Tool/Detail", **model)["tool"] for _ in range(2))
    assert "dynamicprice" not in first
    assert {**second, "dynamicprice": None} == {**first, "dynamicprice": None}


def test_the_echo_can_be_off(caller: Caller) -> None:
    taskid = caller.run(**HANG)
    assert caller.task(taskid)["parameters"] == HANG
    caller.wiro.set_faults(["echo:off"])
    assert caller.task(taskid)["parameters"] == {}
    assert caller.ask("Task/List")["tasklist"][0]["parameters"] == {}
    (run,) = caller.wiro.ledger()["runs"]
    assert run["parameters"] == HANG


@pytest.mark.parametrize(
    ("kind", "detail", "listed"),
    [
        ("off_in_list", {**HANG, "seed": "7"}, {}),
        ("partial", HANG, HANG),
    ],
)
def test_the_echo_can_be_less(caller: Caller, kind: str, detail: object, listed: object) -> None:
    taskid = caller.run(**HANG, seed=7)
    caller.wiro.set_faults([f"echo:{kind}"])
    assert caller.task(taskid)["parameters"] == detail
    assert caller.ask("Task/List")["tasklist"][0]["parameters"] == listed
    assert caller.wiro.ledger()["faults"] == {f"echo:{kind}": 1 if kind == "off_in_list" else 2}
    assert caller.wiro.ledger()["runs"][0]["parameters"] == {**HANG, "seed": "7"}


def test_the_list_can_have_numbers_for_ids_and_no_creation_times(caller: Caller) -> None:
    taskid = caller.run(**HANG)
    caller.wiro.set_faults(["list:int_ids", "list:no_createtime"])
    (listed,) = caller.ask("Task/List")["tasklist"]
    assert listed["id"] == int(taskid)
    assert "createtime" not in listed
    assert caller.task(taskid)["id"] == taskid
    assert caller.wiro.ledger()["faults"] == {"list:int_ids": 1, "list:no_createtime": 1}


# The CDN


@pytest.fixture
def film(caller: Caller) -> tuple[str, int]:
    (output,) = caller.video()["outputs"]
    return output["url"], int(output["size"])


def test_a_body_is_cut_and_can_be_resumed(caller: Caller, film: tuple[str, int]) -> None:
    url, size = film
    whole = requests.get(url, timeout=5).content
    caller.wiro.set_faults(["cdn:cut:times=1"])
    got = bytearray()

    def read(answer: requests.Response) -> None:
        for chunk in answer.iter_content(1000):
            got.extend(chunk)

    with requests.get(url, stream=True, timeout=5) as answer:
        assert answer.headers["content-length"] == str(size)
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            read(answer)
    assert len(got) == pytest.approx(size / 2, abs=1001)
    rest = requests.get(url, headers={"range": f"bytes={len(got)}-"}, timeout=5)
    assert (rest.status_code, got + rest.content == whole) == (206, True)


@pytest.mark.parametrize(
    ("kind", "status", "content_type"),
    [("error", 502, "text/html"), ("expired", 403, "application/xml"), ("html", 200, "video/mp4")],
)
def test_something_else_comes_than_the_film(
    caller: Caller, film: tuple[str, int], kind: str, status: int, content_type: str
) -> None:
    caller.wiro.set_faults([f"cdn:{kind}"])
    answer = requests.get(film[0], timeout=5)
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (status, content_type)
    assert answer.content.startswith(b"<")
    assert caller.wiro.ledger()["faults"] == {f"cdn:{kind}": 1}


def test_a_film_of_the_wrong_size(caller: Caller, film: tuple[str, int]) -> None:
    caller.wiro.set_faults(["cdn:wrong_size"])
    answer = requests.get(film[0], timeout=5)
    assert len(answer.content) == int(answer.headers["content-length"]) == film[1] - 7


def test_a_slow_film_and_a_reset(caller: Caller, film: tuple[str, int]) -> None:
    caller.wiro.set_faults(["cdn:slow:seconds=0.4:times=1", "cdn:reset"])
    started = time.monotonic()
    assert len(requests.get(film[0], timeout=5).content) == film[1]
    assert time.monotonic() - started >= 0.4
    assert outcome(lambda: requests.get(film[0], timeout=5)) == "reset"


def test_a_hostile_name(caller: Caller) -> None:
    task = caller.video()
    caller.wiro.set_faults(["cdn:hostile_name"])
    (output,) = caller.task(task["id"])["outputs"]
    assert output["name"] == "../../evil\u202e.mp4"
    assert output["url"] == task["outputs"][0]["url"]


def test_every_kind_is_tried_here() -> None:
    tried: dict[str, Any] = {
        "run": 11,
        "detail": 10,
        "list": 12,
        "cancel": 8,
        "kill": 8,
        "tool": 9,
        "cdn": 8,
        "echo": 3,
        "any": 8,
    }
    assert {point: len(kinds) for point, kinds in KINDS.items()} == tried


def test_equal_orders_are_drawn_once_and_have_equal_bytes(wiro: LocalWiro) -> None:
    caller = Caller(wiro)
    tasks = [caller.video(), caller.video(), caller.wait(caller.run(**{**VIDEO, "seed": "8"}))]
    films = [requests.get(task["outputs"][0]["url"], timeout=5).content for task in tasks]
    assert films[0] == films[1] != films[2]

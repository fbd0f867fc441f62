from __future__ import annotations

import json
import re
import shutil
import subprocess

import pytest
import requests

from airflow_provider_wiro.emulator import LocalWiro
from airflow_provider_wiro.emulator.gate import signature
from tests.unit.emulator.support import KEY, SECRET, SEEDANCE, VIDEO, Caller

RUN = f"Run/{SEEDANCE}"

# Credentials


def test_the_signature_is_openssls() -> None:
    known = "fb09c231bb7c09cf939ac6f3671b1abffd2658b4d6f4146b06bea8b9c35fa2d1"
    key, secret, nonce = "key", "The quick brown fox jumps over ", "1734513807"
    openssl = shutil.which("openssl")
    if openssl:
        command = [openssl, "dgst", "-sha256", "-hmac", key]
        out = subprocess.run(command, input=(secret + nonce).encode(), capture_output=True, check=True).stdout
        assert out.decode().split()[-1] == known
    assert signature(key, secret, nonce) == known


def test_a_right_signature_is_let_in_and_a_second_use_of_a_nonce_is_noticed(caller: Caller) -> None:
    assert caller.post("Task/List", headers=caller.headers("5")).json()["result"] is True
    assert caller.wiro.ledger()["reused_nonces"] == 0
    assert caller.post("Task/List", headers=caller.headers("5")).json()["result"] is True
    assert caller.wiro.ledger()["reused_nonces"] == 1


FOUNDED = "Project authorization is not founded."
NOT_VALID = "Project authorization is not valid."
NEEDED = "Project requires signature authentication. x-signature and x-nonce headers are required."


def test_wrong_credentials_are_refused_with_401(caller: Caller) -> None:
    def refused(**headers: str) -> tuple[int, int, str]:
        return caller.refusal("Task/List", headers={name.replace("_", "-"): value for name, value in headers.items()})

    assert refused() == (401, 0, FOUNDED)
    assert refused(x_api_key="other") == (401, 0, FOUNDED)
    assert refused(x_api_key=KEY) == (401, 0, NEEDED)
    assert refused(x_api_key=KEY, x_nonce="5") == (401, 0, NEEDED)
    assert refused(x_api_key=KEY, x_nonce="5", x_signature="0" * 64) == (401, 0, NOT_VALID)
    assert refused(x_api_key=KEY, x_nonce="5", x_signature=signature(KEY, "other", "5")) == (
        401,
        0,
        NOT_VALID,
    )
    assert refused(x_api_key=KEY, x_nonce="6", x_signature=signature(KEY, SECRET, "5")) == (401, 0, NOT_VALID)
    assert refused(x_api_key=KEY, x_nonce="x", x_signature=signature(KEY, SECRET, "x")) == (401, 0, NOT_VALID)
    assert refused(authorization="Bearer abc") == (401, 99, "Authorization bearer token is invalid.")
    assert caller.wiro.ledger()["refusals"] == {"0": 8, "99": 1}
    assert caller.wiro.ledger()["runs"] == []


def test_a_project_without_a_secret_takes_the_key_alone() -> None:
    with LocalWiro(api_key=KEY, api_secret="") as wiro:
        caller = Caller(wiro)
        assert "extra" not in json.loads(wiro.connection_json())
        assert caller.post("Task/List", headers={"x-api-key": KEY}).json()["result"] is True
        assert caller.refusal("Task/List", headers={"x-api-key": "other"}) == (401, 0, FOUNDED)


def test_the_connection_has_what_airflow_needs(wiro: LocalWiro) -> None:
    assert json.loads(wiro.connection_json()) == {
        "conn_type": "wiro",
        "host": wiro.base_url,
        "password": KEY,
        "extra": {"api_secret": SECRET},
    }
    assert wiro.base_url == f"{wiro.url}/v1"


# Runs


def test_a_run_ends_with_a_video_and_a_bill(caller: Caller) -> None:
    answer = caller.ask(RUN, **VIDEO)
    assert set(answer) == {"errors", "taskid", "socketaccesstoken", "result"}
    assert re.fullmatch(r"[0-9A-Za-z]{30}", answer["socketaccesstoken"])
    task = caller.wait(answer["taskid"])
    (output,) = task["outputs"]
    assert task["pexit"] == "0"
    assert task["totalcost"] == "0.100000000000"
    assert task["parameters"] == VIDEO
    assert task["modelslugproject"] == "text-to-video-seedance-v1"
    assert output["contenttype"] == "video/mp4"
    film = requests.get(output["url"], timeout=5).content
    assert (len(film), film[4:8]) == (int(output["size"]), b"ftyp")
    assert {type(value) for name, value in task.items() if name not in ("parameters", "outputs")} == {str}
    ledger = caller.wiro.ledger()
    (run,) = ledger["runs"]
    assert (run["billed"], run["cost"], run["pexit"]) == (True, "0.10", "0")
    assert (ledger["billed_total"], ledger["balance"]) == ("0.10", "499.90")
    assert ledger["calls"]["Run"] == 1


def test_a_task_is_found_by_id_and_by_token(caller: Caller) -> None:
    answer = caller.ask(RUN, **VIDEO)
    token = answer["socketaccesstoken"]
    for body in ({"tasktoken": token}, {"taskid": answer["taskid"]}, {"taskid": int(answer["taskid"])}):
        assert caller.ask("Task/Detail", **body)["tasklist"][0]["socketaccesstoken"] == token
    assert caller.refusal("Task/Detail", {"taskid": "1"}) == (200, 1, "There is no task yet.")
    assert caller.refusal("Task/Detail", {"tasktoken": "x"}) == (200, 1, "There is no task yet.")
    assert caller.refusal("Task/Detail") == (200, 0, "taskid or socketaccesstoken is required")


def test_only_success_is_billed(caller: Caller) -> None:
    for mark in ("fail", "error", "cancel"):
        task = caller.wait(caller.run(prompt=f"[wiro:{mark}]"))
        assert (task["totalcost"], task["outputs"]) == ("0", [])
    assert caller.wiro.ledger()["billed_total"] == "0.00"
    caller.video()
    assert caller.wiro.ledger()["billed_total"] == "0.10"


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, "Request parameter [prompt] required"),
        ({"prompt": "  "}, "Request parameter [prompt] required"),
        ({"prompt": ["x"]}, "Request parameter [prompt] must be a string"),
        ({"resolution": "1080p"}, "Request parameter [resolution] must be one of 480p, 720p"),
        ({"ratio": "16x9"}, "Request parameter [ratio] must be one of 16:9, 4:3, 1:1, 3:4, 9:16, 21:9, 9:21"),
        ({"duration": 6}, "Request parameter [duration] must be one of 5, 10"),
        ({"fps": "30"}, "Request parameter [fps] must be one of 24, 16"),
        ({"watermark": True}, "Request parameter [watermark] must be a string"),
        ({"camerafixed": "yes"}, "Request parameter [camerafixed] must be one of false, true"),
        ({"seed": "x"}, "Request parameter [seed] must be integer or float"),
        ({"seed": "-2"}, "Request parameter [seed] must be between -1 and 4294967295"),
        ({"seed": 2**32}, "Request parameter [seed] must be between -1 and 4294967295"),
    ],
)
def test_wrong_inputs_are_refused(caller: Caller, inputs: dict[str, object], message: str) -> None:
    body = {"prompt": "A kite", **inputs} if inputs else {}
    assert caller.refusal(RUN, body) == (200, 0, message)
    assert caller.wiro.ledger()["runs"] == []


@pytest.mark.parametrize("seed", [None, "", False, "false", -1, "0", 4294967295, "1.0"])
def test_the_seed_may_be_missing_in_many_ways(slow_wiro: LocalWiro, seed: object) -> None:
    assert Caller(slow_wiro).run(seed=seed, duration=5, fps="16", watermark="true", callbackUrl="You can provide ...")


def test_numbers_are_echoed_as_strings(slow_wiro: LocalWiro) -> None:
    caller = Caller(slow_wiro)
    task = caller.task(caller.run(seed=12, duration=10))
    assert task["parameters"] == {"prompt": "A kite", "seed": "12", "duration": "10"}


def test_every_other_code(caller: Caller) -> None:
    assert caller.refusal("Run/ByteDance/none", {"prompt": "x"}) == (200, 1, "slug-owner-project-not-exist")
    assert caller.refusal("Run/local/members-only", {"prompt": "x"}) == (200, 98, "sign in to run this model")
    assert caller.refusal("Run/local/not-accessible", {"prompt": "x"}) == (200, 1, "tool-not-accessible")
    assert caller.refusal("Run/a/b/c") == (404, 0, "Error parsing url.")
    assert caller.refusal("Nothing") == (404, 0, "Error parsing url.")
    assert caller.http.get(f"{caller.wiro.base_url}/Task/List", timeout=5).status_code == 404
    for broken in (b"{", b"[]", b"3", b"\xff"):
        assert caller.refusal(RUN, data=broken) == (200, 0, "Request parameters are invalid.")
    missing = caller.refusal("Run/ByteDance/image-to-video-seedance-lite-v1", {"prompt": "x"})
    assert missing == (200, 0, "Request files [inputImageUrl] required")


def test_codes_96_and_97_follow_the_balance(slow_wiro: LocalWiro) -> None:
    caller = Caller(slow_wiro)
    slow_wiro.set_balance(20)
    first = caller.run(prompt="[wiro:hang]")
    caller.run(prompt="[wiro:hang]")
    status, code, message = caller.refusal(RUN, {"prompt": "x"})
    assert (status, code) == (200, 96)
    assert message == (
        "You have reached your concurrent task limit. With your current balance of $20.00, you can run up to "
        "2 tasks at the same time. Add funds to increase your limit."
    )
    caller.ask("Task/Cancel", taskid=first)
    assert caller.run(prompt="[wiro:hang]")
    requests.post(f"{slow_wiro.url}/control/balance", json={"balance": 0.09}, timeout=5).raise_for_status()
    assert caller.refusal(RUN, {"prompt": "x"}) == (200, 97, "Insufficient balance")
    assert slow_wiro.ledger()["refusals"] == {"96": 1, "97": 1}


def test_the_sheets_curl_line_works(slow_wiro: LocalWiro) -> None:
    caller = Caller(slow_wiro)
    headers = {**caller.headers(), "content-type": "multipart/form-data"}
    body = {**VIDEO, "seed": None, "callbackUrl": "You can provide a callback URL"}
    assert caller.post(RUN, headers=headers, data=json.dumps(body)).json()["result"] is True


def test_a_model_without_files_answers_with_text(caller: Caller) -> None:
    task = caller.wait(caller.run("local/echo-text", prompt="Hello"))
    (output,) = task["outputs"]
    assert output["contenttype"] == "raw"
    assert output["content"]["answer"] == ["You said: Hello"]
    assert "url" not in output
    assert task["totalcost"] == "0.010000000000"


def test_files_come_along_in_a_form(slow_wiro: LocalWiro) -> None:
    caller = Caller(slow_wiro)
    files = {"inputImageUrl": ("first.png", b"\x89PNG", "image/png")}
    path = "Run/ByteDance/image-to-video-seedance-lite-v1"
    answer = caller.post(path, files=files, data={"prompt": "A kite", "resolution": "1080p", "ratio": "adaptive"})
    parameters = caller.task(answer.json()["taskid"])["parameters"]
    assert parameters["resolution"] == "1080p"
    assert requests.get(parameters["inputImageUrl"], timeout=5).content == b"\x89PNG"


# List, Cancel, Kill, delete


def test_the_list_is_newest_first_and_paged(slow_wiro: LocalWiro) -> None:
    caller = Caller(slow_wiro)
    ids = [caller.run(seed=number) for number in range(5)]
    text = caller.run("local/echo-text")
    page = caller.ask("Task/List", type="model", sort="id", order="DESC", start="1", limit="2")
    assert page["total"] == "6"
    assert [task["id"] for task in page["tasklist"]] == [ids[4], ids[3]]
    assert [task["id"] for task in caller.ask("Task/List", modelName="seedance", limit="1")["tasklist"]] == [ids[4]]
    assert [task["id"] for task in caller.ask("Task/List", order="ASC", limit=1)["tasklist"]] == [ids[0]]
    assert caller.ask("Task/List", modelName="echo")["tasklist"][0]["id"] == text
    assert caller.refusal("Task/List", {"limit": "101"})[2] == "Request parameter [limit] must be between 1 and 100"
    assert caller.refusal("Task/List", {"start": "-1"})[2] == "Request parameter [start] must be integer or float"


@pytest.mark.parametrize("name", ["taskid", "tasktoken", "socketaccesstoken"])
def test_a_queued_task_is_cancelled_not_killed(slow_wiro: LocalWiro, name: str) -> None:
    caller = Caller(slow_wiro)
    answer = caller.ask(RUN, **VIDEO)
    body = {name: answer["taskid" if name == "taskid" else "socketaccesstoken"]}
    assert caller.refusal("Task/Kill", body)[:2] == (200, 1)
    assert caller.ask("Task/Cancel", **body)["result"] is True
    task = caller.task(answer["taskid"])
    assert (task["status"], task["canceltime"] != "0") == ("task_cancel", True)
    assert caller.refusal("Task/Cancel", body) == (200, 1, "Task is not in a cancellable state.")
    assert slow_wiro.ledger()["stops"] == {"cancelled": 1, "killed": 0}


def test_a_running_task_is_killed_not_cancelled(caller: Caller) -> None:
    taskid = caller.run(prompt="[wiro:hang]")
    caller.wait(taskid, "task_output")
    assert caller.refusal("Task/Cancel", {"taskid": taskid}) == (
        200,
        1,
        "Task is not in a cancellable state.",
    )
    assert caller.ask("Task/Kill", taskid=taskid)["result"] is True
    task = caller.task(taskid)
    assert (task["status"], task["totalcost"], task["outputs"]) == ("task_cancel", "0", [])
    status, code, message = caller.refusal("Task/Kill", {"taskid": taskid})
    assert (status, code, message.startswith("Task could not be killed: ")) == (200, 1, True)
    assert caller.wiro.ledger()["stops"] == {"cancelled": 0, "killed": 1}
    assert caller.refusal("Task/Kill", {"taskid": "3"})[2] == "There is no task yet."


def test_files_are_deleted_again_and_again(caller: Caller) -> None:
    task = caller.video()
    url = task["outputs"][0]["url"]
    for _ in range(2):
        assert caller.ask("Task/InputOutputDelete", tasktoken=task["socketaccesstoken"])["result"] is True
    assert caller.task(task["id"])["outputs"] == []
    assert caller.task(task["id"])["parameters"] == VIDEO
    assert requests.get(url, timeout=5).status_code == 404
    running = caller.run(prompt="[wiro:hang]")
    assert caller.refusal("Task/InputOutputDelete", {"taskid": running})[1] == 1


# Tools and files


def test_a_model_shows_inputs_and_prices(caller: Caller) -> None:
    caller.video()
    (tool,) = caller.ask("Tool/Detail", slugowner="ByteDance", slugproject="text-to-video-seedance-v1")["tool"]
    prices = json.loads(tool["dynamicprice"])
    found = {(p["inputs"]["resolution"], p["inputs"]["duration"]): p["price"] for p in prices}
    assert found == {("480p", "5"): 0.1, ("480p", "10"): 0.2, ("720p", "5"): 0.22, ("720p", "10"): 0.44}
    assert {p["priceMethod"] for p in prices} == {"cpr"}
    items = {item["id"]: item for item in tool["parameters"][0]["items"]}
    assert [option["value"] for option in items["fps"]["options"]] == ["24", "16"]
    assert items["prompt"]["required"] is True
    assert tool["taskstat"]["successcount"] == "1"
    assert caller.refusal("Tool/Detail", {"slugowner": "a", "slugproject": "b"})[1] == 1


def test_models_are_listed(caller: Caller) -> None:
    found = caller.ask("Tool/List", search="seedance", start="0", limit="4")
    assert (found["total"], len(found["tool"])) == (6, 4)
    text = caller.ask("Tool/List", categories=["llm"])["tool"]
    assert [tool["slugproject"] for tool in text] == ["echo-text"]


def test_a_file_is_uploaded(caller: Caller) -> None:
    (entry,) = caller.post("File/Upload", files={"file": ("../a b.png", b"\x89PNG", "image/png")}).json()["list"]
    assert (entry["size"], entry["contenttype"]) == ("4", "image/png")
    assert requests.get(entry["url"], timeout=5).content == b"\x89PNG"
    assert caller.refusal("File/Upload", {}) == (200, 0, "Request files [file] required")

"""Requests to Wiro: one method for each endpoint, and one table of what may be sent again.

Every endpoint is a POST whose answer is an envelope ``{"result": …, "errors": […], …}`` with HTTP 200 even for most
refusals (Wiro's documentation), so ``result`` decides. Redirects are never followed: a signature belongs to one host.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from requests.adapters import HTTPAdapter
from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

from airflow_provider_wiro.api.auth import WiroAuth
from airflow_provider_wiro.api.refusals import refusal
from airflow_provider_wiro.api.tasks import (
    QUEUED_STATUSES,
    Outcome,
    RunReceipt,
    ServerClock,
    TaskPage,
    WiroTask,
    whole_number,
)
from airflow_provider_wiro.api.transport import GuardedBody, never_sent, request_body, retry_after, server_clock
from airflow_provider_wiro.exceptions import (
    WiroAPIError,
    WiroBusyError,
    WiroConfigurationError,
    WiroConnectionError,
    WiroError,
    WiroNotFoundError,
    WiroRunUnknownError,
)

BASE_URL = "https://api.wiro.ai/v1"

# What the transport itself may send again when no usable answer came. A Run is an order, and an upload stores a file:
# both are sent once. Stopping and deleting end in the same state however often they are asked.
MAY_RESEND: Mapping[str, bool] = {
    "Run": False,
    "File/Upload": False,
    "Task/Detail": True,
    "Task/List": True,
    "Tool/Detail": True,
    "Task/Cancel": True,
    "Task/Kill": True,
    "Task/InputOutputDelete": True,
}

_STOP_ROUNDS = 3
# How many connections are kept open: one for each thread of a batch, where `requests` would keep ten, and log a warning
# for each one that it closes.
_CONNECTIONS = 16


class WiroClient:
    """Talks to one Wiro project.

    :param auth: the project's credentials.
    :param base_url: address of the API with its version; default: Wiro's own.
    :param connect_timeout: seconds until a connection must stand; default 10.
    :param read_timeout: seconds without a byte of the answer; default 60.
    :param attempts: how often a request that may be sent again is sent at most; default 5.
    :param max_wait: longest pause in seconds between two attempts; a longer ``Retry-After`` is cut to it; default 30.
    :param sleep: called with seconds between attempts.
    """

    def __init__(
        self,
        auth: WiroAuth,
        base_url: str = BASE_URL,
        *,
        connect_timeout: float = 10.0,
        read_timeout: float = 60.0,
        attempts: int = 5,
        max_wait: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self._auth = auth
        self._timeouts = (connect_timeout, read_timeout)
        self._attempts = attempts
        self._max_wait = max_wait
        self._backoff = wait_random_exponential(multiplier=0.5, max=max_wait)
        self._sleep = sleep
        self._session = requests.Session()
        for scheme in ("https://", "http://"):
            self._session.mount(scheme, HTTPAdapter(pool_maxsize=_CONNECTIONS))
        self._clock: ServerClock | None = None

    def run(
        self,
        model: str,
        inputs: Mapping[str, Any],
        files: Mapping[str, str | Path] | None = None,
        before_sending: Callable[[], None] | None = None,
    ) -> RunReceipt:
        """Order one run of a model. It is sent once and never again by this method.

        :param model: ``owner/name``.
        :param inputs: the model's inputs as they go over the wire.
        :param files: input name and path of a local file, sent along as multipart.
        :param before_sending: called when the connection stands and the inputs are about to leave; where it raises,
            they do not leave, and its error is this method's.
        :return: the accepted run's id and token.
        :raises WiroAPIError: Wiro refused: nothing was accepted.
        :raises WiroConnectionError: no connection stood: nothing was accepted.
        :raises WiroRunUnknownError: it was sent, and no usable answer came back.
        :raises WiroConfigurationError: a file cannot be read.
        """
        owner, _, name = model.partition("/")
        if not owner or not name or "/" in name:
            raise WiroConfigurationError(f"model is {model!r}, allowed: 'owner/name'.")
        # A connection that was kept open may have been closed by the other side: the commonest reset would then leave
        # the outcome of a paid request unknown.
        with requests.Session() as session:
            answer = self._post(
                "Run",
                inputs,
                path=f"Run/{quote(owner)}/{quote(name)}",
                files=files,
                session=session,
                before_sending=before_sending,
            )
        wiro_task_id, token = answer.get("taskid"), answer.get("socketaccesstoken")
        if not wiro_task_id:
            raise WiroRunUnknownError("Wiro accepted the run, and its answer has no task id.")
        return RunReceipt(str(wiro_task_id), str(token or ""))

    def get_task(self, wiro_task_id: str | None = None, task_token: str | None = None) -> WiroTask:
        """Read one task.

        :param wiro_task_id: its id, or
        :param task_token: the token that its Run answered.
        :return: the task as it stands.
        :raises WiroNotFoundError: the project has no such task.
        :raises WiroAPIError: Wiro refused.
        :raises WiroConnectionError: no usable answer.
        """
        if (wiro_task_id is None) == (task_token is None):
            raise ValueError("give either wiro_task_id or task_token")
        body = {"taskid": wiro_task_id} if task_token is None else {"tasktoken": task_token}
        try:
            tasks = _tasks(self._post("Task/Detail", body))
        except WiroError as error:
            error.wiro_task_id = wiro_task_id
            raise
        if not tasks:
            raise WiroNotFoundError("Wiro shows no such task.", wiro_task_id=wiro_task_id)
        return tasks[0]

    def list_tasks(self, start: int = 0, limit: int = 100, model: str | None = None) -> TaskPage:
        """Read one page of the project's tasks, newest first.

        :param start: how many of the newest to pass over.
        :param limit: how many to read, 100 at most (Wiro's published client).
        :param model: only tasks of models whose name has this text.
        :return: the page.
        :raises WiroAPIError: Wiro refused.
        :raises WiroConnectionError: no usable answer.
        """
        body = {"type": "model", "sort": "id", "order": "DESC", "start": str(start), "limit": str(limit)}
        if model:
            body["modelName"] = model
        try:
            answer = self._post("Task/List", body)
        except WiroNotFoundError as error:
            if error.http_status != 200:
                raise
            return TaskPage((), 0, self._clock)  # "There is no task yet.": a project without tasks
        entries, total = answer.get("tasklist"), whole_number(answer.get("total"))
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            # Whoever looks for a task must not take this for its absence.
            raise WiroConnectionError("Task/List: the answer has no list of tasks.")
        return TaskPage(tuple(entries), total if total is not None and total >= 0 else None, self._clock)

    def cancel(self, wiro_task_id: str) -> None:
        """Cancel a task that is still queued; Wiro refuses it later (code 1)."""
        self._post("Task/Cancel", _every_name(wiro_task_id))

    def kill(self, wiro_task_id: str) -> None:
        """Kill a task that is running; Wiro refuses it before."""
        self._post("Task/Kill", _every_name(wiro_task_id))

    def stop_task(self, wiro_task_id: str, patience: float = math.inf) -> WiroTask:
        """End a task whatever it does now: Cancel while it is queued, Kill while it runs, three rounds at most.

        :param wiro_task_id: its id.
        :param patience: seconds after which no further round begins; default: none.
        :return: the task afterwards: cancelled, or as it ended by itself meanwhile, or running if Wiro did not stop it.
        :raises WiroError: the task could not be read.
        """
        give_up_at = time.monotonic() + patience
        task = self.get_task(wiro_task_id)
        for _ in range(_STOP_ROUNDS):
            if task.outcome is not Outcome.RUNNING or time.monotonic() > give_up_at:
                break
            ways = (self.cancel, self.kill) if task.status in QUEUED_STATUSES else (self.kill, self.cancel)
            if not any(_granted(way, wiro_task_id) for way in ways):
                self._sleep(0.3)
            task = self.get_task(wiro_task_id)
        return task

    def delete_files(self, task_token: str) -> None:
        """Delete the inputs and outputs of a task that has ended; repeating it is harmless (Wiro's documentation).

        :param task_token: the task's token; :meth:`get_task` tells it.
        :raises WiroAPIError: Wiro refused, for instance because the task still runs.
        :raises WiroConnectionError: no usable answer.
        """
        self._post("Task/InputOutputDelete", {"tasktoken": task_token})

    def get_model(self, model: str) -> dict[str, Any]:
        """Read what Wiro tells about a model: its parameters, prices and running times.

        :param model: ``owner/name``.
        :return: the model's entry of the answer, as it is.
        :raises WiroNotFoundError: no such model.
        :raises WiroAPIError: Wiro refused.
        :raises WiroConnectionError: no usable answer.
        """
        owner, _, name = model.partition("/")
        tools = self._post("Tool/Detail", {"slugowner": owner, "slugproject": name}).get("tool")
        if not isinstance(tools, list) or not tools or not isinstance(tools[0], dict):
            raise WiroNotFoundError(f"Wiro shows no model {model!r}.")
        return tools[0]

    def upload(self, path: str | Path) -> str:
        """Store a local file at Wiro, for models that take an address as input.

        :param path: the file, of 100 MB at most (Wiro's documentation).
        :return: its address.
        :raises WiroConfigurationError: the file cannot be read.
        :raises WiroAPIError: Wiro refused.
        :raises WiroConnectionError: no usable answer.
        """
        stored = self._post("File/Upload", {}, files={"file": path}).get("list")
        url = stored[0].get("url") if isinstance(stored, list) and stored and isinstance(stored[0], dict) else None
        if not url:
            raise WiroConnectionError("Wiro took the file and its answer has no address.")
        return str(url)

    def close(self) -> None:
        """Close the connections that are kept open."""
        self._session.close()

    def _post(self, endpoint: str, body: Mapping[str, Any], **how: Any) -> dict[str, Any]:
        """Send a request, again where :data:`MAY_RESEND` allows it, and return the envelope of a granted one."""
        attempts = self._attempts if MAY_RESEND[endpoint] else 1
        retrying = Retrying(
            stop=stop_after_attempt(attempts),
            retry=retry_if_exception(lambda error: isinstance(error, WiroError) and error.retryable),
            wait=self._pause,
            sleep=self._sleep,
            reraise=True,
        )
        return retrying(self._post_once, endpoint, body, **how)

    def _pause(self, state: RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        asked = error.retry_after if isinstance(error, WiroBusyError) else None
        return self._backoff(state) if asked is None else min(asked, self._max_wait)

    def _post_once(
        self,
        endpoint: str,
        body: Mapping[str, Any],
        *,
        path: str | None = None,
        files: Mapping[str, str | Path] | None = None,
        session: requests.Session | None = None,
        before_sending: Callable[[], None] | None = None,
    ) -> dict[str, Any]:
        is_run = endpoint == "Run"
        session = session or self._session
        with ExitStack() as opened:
            content = request_body(body, files, opened)
            request = requests.Request("POST", f"{self.base_url}/{path or endpoint}", auth=self._auth, **content)
            try:
                prepared = session.prepare_request(request)
                adapter = session.get_adapter(str(prepared.url))
                settings = self._environment
            except (requests.exceptions.RequestException, ValueError, TypeError) as error:
                raise self._impossible(error, endpoint) from None
            if before_sending is not None:
                prepared.body = GuardedBody(prepared.body, before_sending)  # type: ignore[assignment]
            try:
                began = time.time()
                # The adapter, not the session: no redirect is followed, or even looked at.
                response = adapter.send(prepared, timeout=self._timeouts, **settings)
                response.content  # noqa: B018  (reads the answer, while the files are open and errors are ours)
            except (OSError, ValueError) as error:  # all of `requests`' own are OSErrors
                raise self._no_answer(error, endpoint, is_run) from None
        self._clock = server_clock(response, began, time.time())
        return self._read(response, endpoint, is_run)

    @cached_property
    def _environment(self) -> Any:
        """What this process's environment says of proxies and certificates for Wiro's host: it is long, and stays."""
        return self._session.merge_environment_settings(self.base_url, {}, None, None, None)

    def _impossible(self, error: Exception, endpoint: str) -> WiroConfigurationError:
        # The error's own text may quote a header, and so the key.
        return WiroConfigurationError(
            f"{endpoint}: the request to {self.base_url!r} cannot be made ({type(error).__name__}). Nothing was sent.",
            advice="Check the connection's fields, and this machine's settings for proxies and certificates.",
        )

    def _no_answer(self, error: Exception, endpoint: str, is_run: bool) -> WiroError:
        if isinstance(error, requests.exceptions.InvalidURL) or type(error) is OSError:
            # A proxy's address that is none, or a file of certificates that is not there.
            return self._impossible(error, endpoint)
        host = urlsplit(self.base_url).netloc
        what = self._auth.redact(f"{type(error).__name__}: {error}")
        if never_sent(error):
            return WiroConnectionError(f"{endpoint}: no connection to {host} ({what}). Nothing was sent.")
        kind = WiroRunUnknownError if is_run else WiroConnectionError
        return kind(f"{endpoint}: the connection to {host} broke before an answer came ({what}).")

    def _read(self, response: requests.Response, endpoint: str, is_run: bool) -> dict[str, Any]:
        status = response.status_code
        if 300 <= status < 400:
            target = re.sub(r"^\w+://|[/?#].*$", "", response.headers.get("Location", "")) or "another address"
            raise WiroConfigurationError(
                f"{endpoint}: {self.base_url} redirects to {target}; signed requests are never redirected.",
                http_status=status,
                advice="Set the connection's 'Base URL' to the API's real address.",
            )
        try:
            answer = response.json()
        except (ValueError, RecursionError):
            answer = None
        is_envelope = isinstance(answer, dict) and ("result" in answer or "errors" in answer)
        if is_envelope and answer.get("result") is True and status == 200:
            return dict(answer)
        if 400 <= status < 500 or (is_envelope and status == 200):
            # HTTP alone tells enough where something before Wiro answered in its own words.
            envelope = answer if is_envelope else {"errors": [response.reason or "no reason"]}
            raise refusal(envelope, status, endpoint, retry_after(response), self._auth.redact)
        kind = WiroRunUnknownError if is_run else WiroConnectionError
        media_type = response.headers.get("Content-Type", "no content type").split(";")[0]
        raise kind(
            f"{endpoint}: what {urlsplit(self.base_url).netloc} answers is not Wiro's "
            f"({media_type}, {len(response.content)} bytes).",
            http_status=status,
        )


def _granted(way: Callable[[str], None], wiro_task_id: str) -> bool:
    """Ask for a stop; tell whether Wiro took it, or may have taken it."""
    try:
        way(wiro_task_id)
    except WiroAPIError:
        return False  # the task has moved on since the look
    except WiroConnectionError:
        pass
    return True


def _tasks(answer: Mapping[str, Any]) -> tuple[WiroTask, ...]:
    entries = answer.get("tasklist")
    return (
        tuple(WiroTask.from_api(entry) for entry in entries if isinstance(entry, dict))
        if isinstance(entries, list)
        else ()
    )


def _every_name(wiro_task_id: str) -> dict[str, str]:
    # Wiro's documentation and its published client disagree on the field's name.
    return {"taskid": wiro_task_id, "tasktoken": wiro_task_id, "socketaccesstoken": wiro_task_id}

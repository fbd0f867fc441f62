"""What each endpoint of the API does, once the caller has been let in. No HTTP here but the bodies."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from airflow_provider_wiro.emulator.account import NO_TASK, Account, RefusedError, Task
from airflow_provider_wiro.emulator.body import MAX_BYTES, Body, Upload
from airflow_provider_wiro.emulator.catalogue import MODELS, BadInputError, Model, find_model, pixels
from airflow_provider_wiro.emulator.faults import Faults
from airflow_provider_wiro.emulator.studio import Drawing, Order
from airflow_provider_wiro.emulator.wire import HOSTILE_NAME, good, show, task_answer

# Endpoint -> where its faults are switched on. The last two only ever meet `any`.
POINTS = {
    "Run": "run",
    "Task/Detail": "detail",
    "Task/List": "list",
    "Task/Cancel": "cancel",
    "Task/Kill": "kill",
    "Tool/Detail": "tool",
    "Tool/List": "tool",
    "Task/InputOutputDelete": "delete",
    "File/Upload": "upload",
}
_FOREIGN = {"model": "ByteDance/text-to-video-seedance-v1", "prompt": "Somebody else's video"}
_ID_FIELDS = ("tasktoken", "socketaccesstoken")


@dataclass
class Endpoints:
    """The endpoints of one account."""

    account: Account
    faults: Faults
    draw: Callable[[Order], Drawing]
    seed: int = 0
    uploads: dict[str, Upload] = field(default_factory=dict)

    def call(self, call: str, path: str, body: Body, base: str) -> dict[str, object]:
        """Answer a request.

        :param call: one of :data:`POINTS`.
        :param path: the path behind ``/v1/``.
        :param body: what came with it.
        :param base: this server as the caller knows it.
        :raises RefusedError: the request is refused.
        """
        match call:
            case "Run":
                task = self.prepare_run(path, body, base)()
                return good(taskid=task.taskid, socketaccesstoken=task.token)
            case "Task/Detail":
                return self._detail(body, base)
            case "Task/List":
                return self._list(body, base)
            case "Task/Cancel":
                self.account.cancel(self._find(body))
            case "Task/Kill":
                self.account.kill(self._find(body))
            case "Task/InputOutputDelete":
                self.account.delete_files(self._find(body))
            case "File/Upload":
                return self._upload(body, base)
            case _:
                return self._tools(call, body)
        return good()

    # Runs

    def prepare_run(self, path: str, body: Body, base: str, *, foreign: bool = False) -> Callable[[], Task]:
        """Check a run and return what accepts it.

        :param path: ``Run/owner/model``.
        :param body: the model's inputs.
        :param base: where uploaded files are.
        :param foreign: somebody else's.
        :raises RefusedError: the model does not exist or its inputs are wrong, or the account may not run it
            now; the last may also be raised when it is to be accepted.
        """
        owner, _, project = path.removeprefix("Run/").partition("/")
        model = find_model(owner, project)
        if model is None:
            raise RefusedError(1, "slug-owner-project-not-exist")
        if model.refusal is not None:
            raise RefusedError(*model.refusal)
        files = {name: self._store(upload, base) for name, upload in body.files.items()}
        try:
            parameters = model.check(body.fields, files)
        except BadInputError as wrong:
            raise RefusedError(0, str(wrong)) from wrong
        self.account.admit(model, parameters)

        def draw(number: int) -> Drawing | None:
            # Nobody looks at the videos of others: equal ones are drawn once.
            return self._order(model, parameters, 0 if foreign else number)

        return lambda: self.account.accept(model, parameters, draw, foreign=foreign)

    def run_foreign(self, fields: Mapping[str, object]) -> list[str]:
        """Accept runs of somebody else in the same project, without a call, and return their ids.

        :param fields: ``count`` (default 1), ``model`` and its inputs; all may be missing.
        :raises RefusedError: see :meth:`prepare_run`; those before the one that is refused have been accepted.
        """
        body = Body({**_FOREIGN, **fields})
        inputs = Body({name: value for name, value in body.fields.items() if name not in ("count", "model")})
        path = f"Run/{body.text('model')}"
        count = body.number("count", 1, 1, 1000)
        return [self.prepare_run(path, inputs, "", foreign=True)().taskid for _ in range(count)]

    def _order(self, model: Model, parameters: dict[str, str], number: int) -> Drawing | None:
        if not model.video:
            return None
        full = {item.name: item.default or "" for item in model.inputs} | parameters
        width, height = pixels(model.pixels_of, full["resolution"], full["ratio"])
        seed = int(float(full["seed"] or "-1"))
        if seed == -1:
            seed = int.from_bytes(hashlib.sha256(f"{self.seed}:{number}".encode()).digest()[:4])
        return self.draw(
            Order(
                prompt=full["prompt"],
                seed=seed,
                width=width,
                height=height,
                seconds=int(full["duration"]),
                fps=int(full["fps"]),
                watermark=full["watermark"] == "true",
                camera_fixed=full["camerafixed"] == "true",
            )
        )

    # Tasks

    def _find(self, body: Body) -> Task:
        taskid, token = body.text("taskid"), body.text(*_ID_FIELDS)
        if not taskid and not token:
            raise RefusedError(0, "taskid or socketaccesstoken is required")
        return self.account.find(taskid, token)

    def _detail(self, body: Body, base: str) -> dict[str, object]:
        task = self._find(body)
        early = self.faults.pick("detail", "early")
        if early is not None and self.account.now - task.created < early.seconds:
            self.faults.happen(early, "detail")
            raise RefusedError(*NO_TASK)
        return task_answer([self._show(task, base, "detail")], 1)

    def _list(self, body: Body, base: str) -> dict[str, object]:
        if self._happens("list", "off"):
            raise RefusedError(0, "You don't have any permission for this action.")
        start = body.number("start", 0, 0, 10**9)
        limit = body.number("limit", 20, 1, 100)
        tasks = self.account.newest(body.text("modelName"))
        if body.text("order").upper() == "ASC":
            tasks.reverse()
        return task_answer([self._show(task, base, "list") for task in tasks[start : start + limit]], len(tasks))

    def _show(self, task: Task, base: str, point: str) -> dict[str, object]:
        hostile = self.faults.pick("cdn", "hostile_name")
        shown = show(task, self.account.now, base, name="0.mp4" if hostile is None else HOSTILE_NAME)
        if hostile is not None and shown["outputs"]:
            self.faults.happen(hostile, "cdn")
        no_echo = self.faults.pick("echo", "off", "partial", *(["off_in_list"] if point == "list" else []))
        if no_echo is not None:
            self.faults.happen(no_echo, "echo")
            kept = {name: value for name, value in task.parameters.items() if name != "seed"}
            shown["parameters"] = kept if no_echo.kind == "partial" else {}
        for kind, name in (("no_pexit", "pexit"), ("no_createtime", "createtime")):
            if self._happens(point, kind):
                del shown[name]
        if self._happens(point, "int_ids"):
            shown["id"] = task.number
        return shown

    def _happens(self, point: str, kind: str) -> bool:
        fault = self.faults.pick(point, kind)
        if fault is not None:
            self.faults.happen(fault, point)
        return fault is not None

    # Models and files

    def _tools(self, call: str, body: Body) -> dict[str, object]:
        if call == "Tool/Detail":
            model = find_model(body.text("slugowner"), body.text("slugproject"))
            if model is None:
                raise RefusedError(1, "slug-owner-project-not-exist")
            return good(tool=[self._tool(model)])
        wanted, owner = body.text("search").lower(), body.text("slugowner").lower()
        found = [m for m in MODELS if wanted in m.slug.lower() and owner in ("", m.owner.lower())]
        categories = body.fields.get("categories")
        if isinstance(categories, list) and categories:
            found = [model for model in found if set(categories) & set(model.categories)]
        found.sort(key=lambda model: model.number, reverse=body.text("order").upper() != "ASC")
        start, limit = body.number("start", 0, 0, 10**9), body.number("limit", 20, 1, 100)
        return good(tool=[self._tool(model) for model in found[start : start + limit]], total=len(found))

    def _tool(self, model: Model) -> dict[str, object]:
        runs = [task for task in self.account.newest() if task.model is model]
        good_ones = sum(task.billed for task in runs)
        bad_ones = sum(task.pexit(self.account.now) == "1" for task in runs)
        last = runs[0].told(runs[0].created) if runs else "0"
        stat = {
            "runcount": str(len(runs)),
            "successcount": str(good_ones),
            "errorcount": str(bad_ones),
            "lastruntime": last,
        }
        shown = {**model.tool(), "taskstat": stat}
        if self._happens("tool", "no_prices"):
            del shown["dynamicprice"]
        return shown

    def _store(self, upload: Upload, base: str) -> str:
        if len(upload.data) > MAX_BYTES:
            raise RefusedError(0, "Request files are larger than 100 MB.")
        key = "-".join(secrets.token_hex(4) for _ in range(8))
        self.uploads[key] = upload
        return f"{base}/cdn/{key}/{quote(upload.name, safe='')}"

    def _upload(self, body: Body, base: str) -> dict[str, object]:
        upload = body.files.get("file")
        if upload is None:
            raise RefusedError(0, "Request files [file] required")
        url = self._store(upload, base)
        entry = {
            "id": secrets.token_hex(16),
            "name": upload.name,
            "contenttype": upload.content_type,
            "size": str(len(upload.data)),
            "parentid": body.text("folderid") or "0",
            "url": url,
            "addedtime": str(int(self.account.told_now())),
            "accesskey": secrets.token_hex(15),
        }
        return good(list=[entry])

    def file(self, key: str) -> tuple[bytes, str] | None:
        """Return the file behind a CDN key and its type, None if there is none."""
        if key in self.uploads:
            return self.uploads[key].data, self.uploads[key].content_type
        data = self.account.find_file(key)
        return None if data is None else (data, "video/mp4")

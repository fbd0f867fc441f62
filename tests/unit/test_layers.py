"""The arrows between the layers of the package, and the names that it promises.

Imports inside functions and under ``TYPE_CHECKING`` are arrows like any other: no layer needs an exception for them.
After a wanted change of public names: ``python tests/unit/test_layers.py``
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import graphlib
import importlib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import airflow_provider_wiro

PACKAGE = "airflow_provider_wiro"
ROOT = Path(airflow_provider_wiro.__file__).parent
GOLDEN = Path(__file__).parent / "golden" / "public_names.txt"
REWRITE = "python tests/unit/test_layers.py"


@dataclasses.dataclass(frozen=True)
class Layer:
    """What a layer may import, besides itself and the standard library."""

    ours: frozenset[str] = frozenset()
    foreign: frozenset[str] = frozenset()


def may(ours: str = "", foreign: str = "") -> Layer:
    return Layer(frozenset(ours.split()), frozenset(foreign.split()))


# The first part of a module's name below the package is its layer; "" is the package's own __init__.
LAYERS: Mapping[str, Layer] = {
    "": may("provider_info"),
    "provider_info": may(),
    "exceptions": may(foreign="airflow"),
    # urllib3's exceptions tell what requests only wraps; its pools are requests' business.
    "api": may("exceptions", "requests tenacity urllib3.exceptions"),
    "hooks": may("exceptions api", "airflow"),
    "waiting": may("exceptions api", "airflow pendulum"),
    # a name of the CDN is looked up and checked before it is asked
    "outputs": may("exceptions api waiting", "airflow requests tenacity urllib3.exceptions socket"),
    "triggers": may("exceptions api waiting hooks", "airflow"),
    "submission": may("exceptions api"),
    "assets": may(foreign="airflow"),
    "links": may(foreign="airflow"),
    "page": may("exceptions links waiting", "airflow"),
    # jinja2 for a type only, like Airflow's own method that it overrides.
    "templating": may(foreign="airflow jinja2"),
    "parsing": may("exceptions", "airflow"),
    "operators": may(
        "exceptions api waiting hooks outputs submission links page parsing templating triggers", "airflow pendulum"
    ),
    "sensors": may("exceptions api waiting hooks links page parsing templating triggers", "airflow"),
    "decorators": may("exceptions operators parsing", "airflow"),
    "previews": may("exceptions links outputs page", "airflow av PIL"),
    "plugin": may("page", "airflow fastapi sqlalchemy"),
    "emulator": may(foreign="fastapi starlette uvicorn jinja2 requests av PIL"),
}
HTTP_OF_PYTHON = ("http.client", "http.server", "urllib.request", "socket", "ftplib")
DYNAMIC_IMPORTS = {"__import__", "import_module", "import_string", "run_module", "run_path", "exec", "eval"}
# The layers whose names users import; the others are their workshop.
PUBLIC = ("", "exceptions", "api", "hooks", "triggers", "links", "operators", "sensors", "decorators", "previews")


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join((PACKAGE, *(part for part in parts if part != "__init__")))


SOURCES: Mapping[str, Path] = {module_name(path): path for path in sorted(ROOT.rglob("*.py"))}


def layer_of(module: str) -> str:
    return module.removeprefix(PACKAGE).removeprefix(".").partition(".")[0]


def imported_names(source: str, package: str) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of each import, wherever in the file it stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: 1 - node.level or None] if node.level else []
            base = ".".join([*above, node.module] if node.module else above)
            for alias in node.names:
                whole = f"{base}.{alias.name}"
                # `from airflow_provider_wiro import hooks` is about hooks, `… import __version__` about the package.
                yield node.lineno, whole if not is_under(base, (PACKAGE,)) or whole in SOURCES else base


def imports_of(module: str) -> Iterator[tuple[int, str]]:
    path = SOURCES[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    return imported_names(path.read_text(encoding="utf-8"), package)


def is_under(name: str, roots: frozenset[str] | tuple[str, ...]) -> bool:
    return any(name == root or name.startswith(f"{root}.") for root in roots)


def is_allowed(module: str, name: str) -> bool:
    home = layer_of(module)
    if is_under(name, (PACKAGE,)):
        return layer_of(name) in LAYERS[home].ours | {home}
    if name.partition(".")[0] in sys.stdlib_module_names:
        return home == "emulator" or not is_under(name, HTTP_OF_PYTHON) or is_under(name, LAYERS[home].foreign)
    return is_under(name, LAYERS[home].foreign)


def test_every_module_has_a_layer_and_every_layer_a_module() -> None:
    assert {layer_of(module) for module in SOURCES} == set(LAYERS), "a new module needs a row in LAYERS"


def test_the_arrows_make_no_circle() -> None:
    graph = {name: layer.ours for name, layer in LAYERS.items()}
    assert set(graphlib.TopologicalSorter(graph).static_order()) == set(LAYERS)


@pytest.mark.parametrize("module", SOURCES)
def test_imports_follow_the_arrows(module: str) -> None:
    against = [f"line {line}: {name}" for line, name in imports_of(module) if not is_allowed(module, name)]
    assert not against, f"{module} may import {LAYERS[layer_of(module)]}"


@pytest.mark.parametrize("module", [module for module in SOURCES if layer_of(module) != "emulator"])
def test_nothing_is_imported_behind_the_back_of_this_test(module: str) -> None:
    tree = ast.parse(SOURCES[module].read_text(encoding="utf-8"))
    called = {node.func for node in ast.walk(tree) if isinstance(node, ast.Call)}
    names = {getattr(func, "id", None) or getattr(func, "attr", "") for func in called}
    assert not names & DYNAMIC_IMPORTS


SAMPLE = f"""
import os.path, httpx
from {PACKAGE} import hooks, __version__
if TYPE_CHECKING:
    from {PACKAGE}.sensors.wiro import WiroTaskSensor
def late():
    from urllib import request
    from ..outputs import fetch
    from . import wiro
"""


def test_imports_are_found_wherever_they_stand() -> None:
    assert [name for _, name in sorted(imported_names(SAMPLE, f"{PACKAGE}.operators"))] == [
        "httpx",
        "os.path",
        PACKAGE,
        f"{PACKAGE}.hooks",
        f"{PACKAGE}.sensors.wiro",
        "urllib.request",
        f"{PACKAGE}.outputs",
        f"{PACKAGE}.operators.wiro",
    ]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("exceptions", f"{PACKAGE}.api.tasks"),
        ("api.client", "airflow.sdk"),
        ("api.client", f"{PACKAGE}.waiting"),
        ("api.client", "urllib3"),
        ("api.client", "httpx"),
        ("hooks.wiro", "urllib.request.urlopen"),
        ("hooks.wiro", "requests"),
        ("hooks.wiro", f"{PACKAGE}.triggers.wiro"),
        ("submission.driver", "airflow.sdk"),
        ("submission.driver", f"{PACKAGE}.hooks.wiro"),
        ("submission.decision", "requests"),
        ("links", f"{PACKAGE}.exceptions"),
        ("operators.wiro", f"{PACKAGE}.sensors.wiro"),
        ("operators.wiro", f"{PACKAGE}.emulator"),
        ("sensors.wiro", f"{PACKAGE}.operators.wiro"),
        ("sensors.wiro", f"{PACKAGE}.outputs"),
        ("triggers.wiro", "aiohttp"),
        ("previews", f"{PACKAGE}.plugin.media"),
        ("operators.wiro", f"{PACKAGE}.previews"),
        ("plugin.app", f"{PACKAGE}.hooks.wiro"),
        ("plugin.media", f"{PACKAGE}.outputs.store"),
        ("plugin.media", "requests"),
        ("emulator.server", f"{PACKAGE}.api.auth"),
        ("emulator.server", "airflow"),
    ],
)
def test_an_arrow_that_the_design_forbids_is_seen(module: str, name: str) -> None:
    assert not is_allowed(f"{PACKAGE}.{module}", name)


def test_public_names_are_the_promised_ones() -> None:
    assert render() == GOLDEN.read_text(encoding="utf-8"), f"if this change is wanted: {REWRITE}"


def render() -> str:
    """Return the public names of every public module, one to a line, signatures and values with them."""
    modules = [name for name in SOURCES if layer_of(name) in PUBLIC and "._" not in name]
    return "\n\n".join("\n".join(lines) for name in modules if len(lines := module_lines(name)) > 1) + "\n"


def module_lines(name: str) -> list[str]:
    module = importlib.import_module(name)
    lines = [name]
    for key in assigned_names(name):
        lines.append(f"    {key} = {value_text(vars(module)[key])}")
    for key, thing in own_definitions(module):
        if inspect.isclass(thing):
            lines.extend(f"    {line}" for line in class_lines(thing))
        else:
            lines.append(f"    def {key}{signature_text(thing)}")
    return lines


def assigned_names(name: str) -> list[str]:
    names: list[str] = []
    for node in ast.parse(SOURCES[name].read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else []
        targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
        names.extend(target.id for target in targets if isinstance(target, ast.Name))
    return [key for key in names if not key.startswith("_")]


def own_definitions(module: ModuleType) -> list[tuple[str, Any]]:
    return [
        (key, thing)
        for key, thing in vars(module).items()
        if not key.startswith("_")
        and (inspect.isclass(thing) or inspect.isfunction(thing))
        and thing.__module__ == module.__name__
    ]


def class_lines(cls: type) -> list[str]:
    lines = [f"class {cls.__name__}({', '.join(base.__name__ for base in cls.__bases__)})"]
    if issubclass(cls, enum.Enum):
        lines.extend(f"    {member.name} = {member.value!r}" for member in cls)
    elif "__init__" in vars(cls):
        lines.append(f"    def __init__{signature_text(cls.__init__)}")
    fields = {field.name for field in dataclasses.fields(cls)} if dataclasses.is_dataclass(cls) else set()
    for key, thing in vars(cls).items():
        if not key.startswith("_") and key not in fields and not isinstance(thing, cls):
            lines.append(f"    {member_text(key, thing)}")
    return lines


def member_text(key: str, thing: Any) -> str:
    if isinstance(thing, (property, cached_property)):
        getter = thing.fget if isinstance(thing, property) else thing.func
        return f"property {key} -> {inspect.signature(getter).return_annotation}"  # type: ignore[arg-type]
    if isinstance(thing, (classmethod, staticmethod)):
        return f"{type(thing).__name__} {key}{signature_text(thing.__func__)}"
    if inspect.isfunction(thing):
        return f"{'async ' * inspect.iscoroutinefunction(thing)}def {key}{signature_text(thing)}"
    return f"{key} = {value_text(thing)}"


def signature_text(function: Any) -> str:
    signature = inspect.signature(function)
    text = without_addresses(str(signature))
    if len(text) <= 90:
        return text
    # One line for each parameter, so that a diff shows which one changed.
    lines = ["("]
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "    *," not in lines:
            lines.append("    *,")
        lines.append(f"    {without_addresses(str(parameter))},")
    return "\n        ".join([*lines, f") -> {signature.return_annotation!r}"])


def value_text(value: Any) -> str:
    if isinstance(value, (set, frozenset)):
        return f"{{{', '.join(sorted(map(repr, value)))}}}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(map(repr, value))}}}"
    if value is None or isinstance(value, (str, int, float)):
        return repr(value) if len(str(value)) <= 60 else "a long text"  # advice to people is no contract
    return f"({', '.join(map(value_text, value))})" if isinstance(value, tuple) else type(value).__name__


def without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", text)


if __name__ == "__main__":
    GOLDEN.write_text(render(), encoding="utf-8")
    print(f"{GOLDEN} is written.")

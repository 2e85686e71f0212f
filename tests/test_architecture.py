"""Rules of the architecture: imports between layers, dependencies in few files, and the length of files.

The source is read, never run. Each rule is a function from the tree's text to a list of complaints, so that the
rules themselves are tested on small trees that break them.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

import pytest

from tests.async_generators import no_public_async_generators
from tests.command_line_imports import command_line_uses_the_public_sdk, unused_exceptions
from tests.private_members import private_members_stay_in_their_module
from tests.source_tree import PACKAGE, Tree, imports, is_ours, module_name, statements, targets, top_level

ROOT = Path(__file__).parent.parent

Rule = Callable[[Tree], list[str]]


def layers(heading: str) -> dict[str, int]:
    """Read a table of ARCHITECTURE.md: module or sub-package -> layer."""
    table = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8").partition(f"\n{heading}\n")[2]
    rows = [
        line.strip("| ").split(" | ") for line in table.split("\n## ")[0].splitlines() if line[:3] != "|--"
    ]
    found: dict[str, int] = {}
    for layer, modules, *_ in (row for row in rows if row[0].isdigit()):
        names = modules.replace("`", "").split() if "`" in modules else [NAMES[modules.partition(".")[0]]]
        found |= dict.fromkeys(names, int(layer))
    return found


NAMES = {"the package itself": "", "all other modules": "*"}

#: A module imports modules of lower layers only. Modules of the domain import each other, without cycles.
LAYERS = layers("## Client")
DOMAIN = LAYERS.pop("*")

#: The same for the sub-packages of the embedded server.
EMBEDDED_LAYERS = layers("## Embedded server")

#: The embedded server stands beside the client: both use the same lower layers.
EMBEDDED_MAY_IMPORT = {name for name in LAYERS if LAYERS[name] < LAYERS["_connection"]} | {"embedded"}

#: Third-party module -> the beginnings of the paths that may import it.
CONFINED = {
    # All other files use anyio. These use the library under it: for a faster stream, and for work outside of a task.
    "asyncio": ("_transport/_asyncio_stream.py", "_event_loop.py"),
    "trio": ("_event_loop.py",),
    "cattrs": ("_wire/",),
    "orjson": ("_wire/",),
    "httpx_ws": ("_transport/",),
    "httpx": ("_transport/",),
    "xllamacpp": ("embedded/_engine/_worker.py",),
    "starlette": ("embedded/",),
    "uvicorn": ("embedded/",),
    "rich": ("_cli/", "_progress_display.py"),
    "typer": ("_cli/",),
    "prompt_toolkit": ("_cli/",),
    "opentelemetry": ("_tracing.py",),
    "pytest": ("testing/plugin.py",),
}

#: Packages that only transform: bytes and events in, values and events out.
SANS_IO = ("_wire", "_protocol")

LONGEST_FILE = 450


def height(module: str) -> int:
    return LAYERS.get(top_level(module), DOMAIN)


def embedded_top_level(module: str) -> str:
    """Return the module or sub-package of the embedded server that a module belongs to; "" for the package."""
    return [*module.split("."), ""][2]


def arrows_point_down(tree: Tree) -> list[str]:
    """A layer imports only lower layers; within the domain only cycles are forbidden, and another rule finds these."""
    found = []
    for each in imports(tree):
        if not is_ours(each.target) or top_level(each.target) == top_level(each.importer):
            continue
        below = height(each.target) < height(each.importer)
        if not below and not height(each.target) == height(each.importer) == DOMAIN:
            # The one exception: the client starts the embedded server on request.
            if (
                top_level(each.target) == "embedded"
                and each.lazy
                and top_level(each.importer) in ("_client", "_server_access")
            ):
                continue
            found.append(f"{each}: arrows only point down")
    return found


def embedded_arrows_point_down(tree: Tree) -> list[str]:
    """A sub-package of the embedded server imports only sub-packages of lower layers."""
    found = []
    for each in imports(tree):
        if top_level(each.importer) != "embedded" or top_level(each.target) != "embedded":
            continue
        above, below = embedded_top_level(each.importer), embedded_top_level(each.target)
        if above != below and not EMBEDDED_LAYERS.get(below, 0) < EMBEDDED_LAYERS.get(above, 0):
            found.append(f"{each}: arrows only point down")
    return found


def embedded_stands_alone(tree: Tree) -> list[str]:
    """The embedded server imports no module of the client."""
    return [
        f"{each}: the embedded server is no part of the client"
        for each in imports(tree)
        if top_level(each.importer) == "embedded"
        and is_ours(each.target)
        and top_level(each.target) not in EMBEDDED_MAY_IMPORT
    ]


def third_parties_stay_in_their_packages(tree: Tree) -> list[str]:
    """A dependency is imported in few files, so that it can be replaced there."""
    found = []
    for each in imports(tree):
        allowed = CONFINED.get(each.target.split(".")[0])
        if allowed is not None and not each.path.startswith(allowed):
            found.append(f"{each}: allowed in {', '.join(allowed) or 'no file'}")
    return found


def sans_io_packages_never_wait(tree: Tree) -> list[str]:
    """Code without await can be tested without an event loop, and serves both sides of the connection."""
    waiting = ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith | ast.Await
    found = [
        f"{each}: {top_level(each.importer)} is sans-I/O"
        for each in imports(tree)
        if top_level(each.importer) in SANS_IO and each.target.split(".")[0] == "anyio"
    ]
    for path, source in tree.items():
        if top_level(module_name(path)) in SANS_IO:
            nodes = ast.walk(ast.parse(source))
            found += [
                f"{path}:{n.lineno}: async code in a sans-I/O package"
                for n in nodes
                if isinstance(n, waiting)
            ]
    return found


def no_circular_imports(tree: Tree) -> list[str]:
    """Modules do not import each other in a cycle, not even inside functions or for type checkers."""
    graph: dict[str, set[str]] = {module_name(path): set() for path in tree}
    for each in imports(tree):
        if each.target in graph and each.target != each.importer:
            graph[each.importer].add(each.target)
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as exc:
        return [" -> ".join(exc.args[1])]
    return []


def every_own_import_exists(tree: Tree) -> list[str]:
    """A misspelt lazy import would be found only by the user who takes that path."""
    known = {module_name(path) for path in tree}
    return [
        f"{each}: no such module"
        for each in imports(tree)
        if is_ours(each.target) and each.target not in known
    ]


def files_fit_in_the_head(tree: Tree) -> list[str]:
    """A file has at most `LONGEST_FILE` lines, because a longer one does two things."""
    lengths = {path: len(source.splitlines()) for path, source in tree.items()}
    return [f"{path}: {length} lines" for path, length in lengths.items() if length > LONGEST_FILE]


RULES: list[Rule] = [
    arrows_point_down,
    command_line_uses_the_public_sdk,
    embedded_arrows_point_down,
    embedded_stands_alone,
    every_own_import_exists,
    files_fit_in_the_head,
    no_circular_imports,
    no_public_async_generators,
    private_members_stay_in_their_module,
    sans_io_packages_never_wait,
    third_parties_stay_in_their_packages,
]


@pytest.fixture(scope="module")
def tree() -> Tree:
    """The package as it is on disk."""
    package = ROOT / PACKAGE
    return {
        path.relative_to(package).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(package.rglob("*.py"))
    }


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps_the_rule(rule: Rule, tree: Tree) -> None:
    assert tree["errors.py"]
    found = rule(tree)
    assert not found, "\n".join(found)


def unused_allowances(tree: Tree) -> list[str]:
    """Find the allowances of `CONFINED` and the rows of `LAYERS` that the package does not need."""
    found = list(imports(tree))
    unused = [
        f"{third_party} may be imported in {place}, and is not"
        for third_party, places in CONFINED.items()
        for place in places
        if not any(each.target.split(".")[0] == third_party and each.path.startswith(place) for each in found)
    ]
    return unused + [
        f"{name!r} has a layer, and does not exist"
        for table, present in (
            (LAYERS, {top_level(module_name(path)) for path in tree}),
            (
                EMBEDDED_LAYERS,
                {embedded_top_level(module_name(path)) for path in tree if path.startswith("embedded/")},
            ),
        )
        for name in table
        if name not in present
    ]


def embedded_modules_without_layer(tree: Tree) -> list[str]:
    """Find the sub-packages of the embedded server that ARCHITECTURE.md does not name."""
    packages = {embedded_top_level(module_name(path)) for path in tree if path.startswith("embedded/")}
    return sorted(packages - set(EMBEDDED_LAYERS))


def test_every_allowance_is_used(tree: Tree) -> None:
    assert unused_allowances(tree) + unused_exceptions(tree) == []


def test_every_sub_package_of_the_server_has_a_layer(tree: Tree) -> None:
    assert embedded_modules_without_layer(tree) == []
    assert embedded_modules_without_layer({**tree, "embedded/_new.py": ""}) == ["_new"]


def test_an_unused_allowance_is_found(tree: Tree) -> None:
    smaller = {path: source for path, source in tree.items() if path != "embedded/_engine/_worker.py"}
    assert unused_allowances(smaller) == [
        "xllamacpp may be imported in embedded/_engine/_worker.py, and is not"
    ]
    used = ("_printable import printable", "_log_setup import set_up_log", "_data_folder import data_folder")
    assert unused_exceptions({"_cli/_a.py": "\n".join(f"from ..{each}" for each in used)}) == [
        "_cli may import _install_command, and does not"
    ]
    smaller = {path: source for path, source in tree.items() if path != "_preload.py"}
    assert unused_allowances(smaller) == ["'_preload' has a layer, and does not exist"]


def test_test_files_keep_the_length_limit() -> None:
    files = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py")}
    assert Path(__file__).name in files
    assert files_fit_in_the_head(files) == []


FACADE = "lmstudio_sync"

#: Files where threads and the event loop meet. All other files of the facade make plain calls.
BRIDGE = ("_bridge.py", "_loop.py")

#: The generator only transforms text: it runs where nothing is installed, and where the facade is missing or broken.
GENERATOR = "_generator/"


@pytest.fixture(scope="module")
def facade() -> Tree:
    """The blocking facade as it is on disk."""
    package = ROOT / FACADE
    return {
        path.relative_to(package).as_posix(): path.read_text(encoding="utf-8")
        for path in sorted(package.rglob("*.py"))
    }


def facade_imports(facade: Tree) -> Iterator[tuple[str, str]]:
    """Yield each path with the third-party module, or the module of ours, that it imports."""
    for path, source in facade.items():
        package = ".".join([FACADE, *PurePosixPath(path).parts[:-1]])
        for node, _ in statements(ast.parse(source)):
            yield from ((path, target) for target in targets(node, package, frozenset()))


def test_the_facade_has_async_code_only_in_its_bridge(facade: Tree) -> None:
    waiting = ast.AsyncFunctionDef | ast.AsyncFor | ast.AsyncWith | ast.Await
    paths = {
        path for path, source in facade.items() for n in ast.walk(ast.parse(source)) if isinstance(n, waiting)
    }
    assert paths == set(BRIDGE)


def test_the_facade_imports_anyio_only_in_its_bridge(facade: Tree) -> None:
    third_parties = {"anyio", "asyncio", "attrs", *CONFINED}
    found = {(path, target.split(".")[0]) for path, target in facade_imports(facade)}
    assert {each for each in found if each[1] in third_parties} == {(path, "anyio") for path in BRIDGE}


def test_the_generator_imports_neither_package(facade: Tree) -> None:
    found = {target for path, target in facade_imports(facade) if path.startswith(GENERATOR)}
    assert found
    assert {each for each in found if is_ours(each)} == set()
    assert {each for each in found if each.startswith(FACADE)} <= {
        f"{FACADE}.{path.removesuffix('.py').replace('/', '.')}"
        for path in facade
        if path.startswith(GENERATOR)
    }


def test_the_core_does_not_import_the_facade(tree: Tree) -> None:
    assert [str(each) for each in imports(tree) if each.target.split(".")[0] == FACADE] == []


def test_files_of_the_facade_keep_the_length_limit(facade: Tree) -> None:
    # A generated file is as long as its source in the core.
    own = {path: source for path, source in facade.items() if "do not edit" not in source[:400]}
    assert set(BRIDGE) < own.keys()
    assert files_fit_in_the_head(own) == []


def test_private_members_of_the_facade_stay_in_their_module(facade: Tree) -> None:
    assert private_members_stay_in_their_module(facade) == []


FOUNDATION = {"__init__.py": "", "errors.py": "", "_wire/__init__.py": "", "_protocol/__init__.py": ""}

BROKEN: list[tuple[Rule, str, str]] = [
    (arrows_point_down, "_wire/_a.py", "from lmstudio_async import _client"),
    (arrows_point_down, "_wire/_a.py", "from .. import _client"),
    (arrows_point_down, "_wire/_a.py", "from .._client import AsyncClient"),
    (arrows_point_down, "_wire/_a.py", "import lmstudio_async._client"),
    (arrows_point_down, "_wire/_a.py", "from .. import AsyncClient"),
    (arrows_point_down, "_wire/_a.py", "if TYPE_CHECKING:\n    from .._client import AsyncClient"),
    (arrows_point_down, "_wire/_a.py", "def f():\n    from .._client import AsyncClient"),
    (arrows_point_down, "_wire/_a.py", "import_module('lmstudio_async._client')"),
    (arrows_point_down, "_wire/_a.py", "importlib.import_module('.._client', __package__)"),
    (arrows_point_down, "_wire/_a.py", "from .._transport import Connector"),
    (arrows_point_down, "_session.py", "from ._operations import AsyncLoadStream"),
    (arrows_point_down, "_operations.py", "from ._llm import AsyncLLM"),
    (arrows_point_down, "_llm.py", "from ._client import AsyncClient"),
    (arrows_point_down, "_client.py", "from .embedded import Server"),
    (arrows_point_down, "_llm.py", "def f():\n    from .embedded import Server"),
    (command_line_uses_the_public_sdk, "_cli/_a.py", "from lmstudio_async._client import AsyncClient"),
    (command_line_uses_the_public_sdk, "_cli/_a.py", "if TYPE_CHECKING:\n    from .. import _client"),
    (command_line_uses_the_public_sdk, "_cli/_b/_a.py", "def f():\n    from ...embedded._printable import a"),
    (embedded_arrows_point_down, "embedded/_catalog/_a.py", "from .._prediction import _b"),
    (embedded_arrows_point_down, "embedded/_catalog/_a.py", "def f():\n    from .._machine import _b"),
    (embedded_arrows_point_down, "embedded/_a.py", "from ._http import _b"),
    (embedded_stands_alone, "embedded/_a.py", "from .._session import Session"),
    (embedded_stands_alone, "embedded/_a.py", "from .. import AsyncClient"),
    (embedded_stands_alone, "embedded/_a.py", "def f():\n    from lmstudio_async._config import Config"),
    (every_own_import_exists, "_llm.py", "def f():\n    from ._modles import AsyncModel"),
    (files_fit_in_the_head, "_llm.py", "x = 1\n" * (LONGEST_FILE + 1)),
    (no_circular_imports, "_models.py", "from . import _llm"),
    (no_circular_imports, "_models.py", "from ._llm import AsyncLLM"),
    (no_circular_imports, "_models.py", "def f():\n    from ._llm import AsyncLLM"),
    (no_public_async_generators, "_llm.py", "class A:\n    async def answer(self):\n        yield 1"),
    (no_public_async_generators, "_llm.py", "async def answer():\n    if x:\n        yield 1"),
    (no_public_async_generators, "_llm.py", "class A:\n    async def __aiter__(self):\n        yield 1"),
    (private_members_stay_in_their_module, "_client.py", "def f(session):\n    return session._link"),
    (sans_io_packages_never_wait, "_wire/_a.py", "async def f(): ..."),
    (sans_io_packages_never_wait, "_protocol/_a.py", "class A:\n    async def f(self): ..."),
    (sans_io_packages_never_wait, "_protocol/_a.py", "from anyio.abc import TaskGroup"),
    (sans_io_packages_never_wait, "_wire/_a.py", "import anyio"),
    (third_parties_stay_in_their_packages, "_transport/_a.py", "import asyncio"),
    (third_parties_stay_in_their_packages, "embedded/_a.py", "from trio.lowlevel import current_task"),
    (third_parties_stay_in_their_packages, "_session.py", "import httpx_ws"),
    (third_parties_stay_in_their_packages, "embedded/_engine/_a.py", "import httpx_ws"),
    (third_parties_stay_in_their_packages, "embedded/_server.py", "import httpx"),
    (third_parties_stay_in_their_packages, "_files.py", "def f():\n    import httpx"),
    (third_parties_stay_in_their_packages, "embedded/_engine/_a.py", "import xllamacpp as xlc"),
    (third_parties_stay_in_their_packages, "_transport/_a.py", "from starlette.routing import Route"),
]


@pytest.mark.parametrize(("rule", "path", "source"), BROKEN)
def test_a_rule_reports_a_violation(rule: Rule, path: str, source: str) -> None:
    tree = dict.fromkeys(["_transport/__init__.py", "_session.py", "_client.py", "_operations.py"], "")
    tree |= {
        "_llm.py": "from ._models import AsyncModel",
        "_models.py": "",
        "_config.py": "",
        "embedded/__init__.py": "",
    }
    tree |= FOUNDATION | {"_session.py": "class Session:\n    _link = None"}
    assert rule(tree) == []
    assert len(rule(tree | {path: source})) == 1


ALLOWED: list[tuple[str, str]] = [
    ("_client.py", "from ._llm import AsyncLLM\nfrom .errors import LMStudioError\nimport anyio"),
    ("_client.py", "def f():\n    from .embedded import Server"),
    ("_server_access.py", "def f():\n    from .embedded import Server"),
    (
        "_llm.py",
        "from contextlib import asynccontextmanager\n@asynccontextmanager\nasync def f():\n    yield 1",
    ),
    ("_llm.py", "async def f():\n    def g():\n        yield 1"),
    ("_protocol/_a.py", "from . import _b\nfrom .._wire import Packet\nimport attrs"),
    ("_transport/_a.py", "import httpx\nfrom httpx_ws import aconnect_ws\nimport anyio"),
    ("embedded/_a.py", "from .._protocol import Endpoint\nimport uvicorn"),
    ("embedded/_engine/_worker.py", "import xllamacpp"),
    ("embedded/_engine/_a.py", "from .._catalog import _b"),
    ("testing/__init__.py", "from lmstudio_async import AsyncClient"),
    ("_cli/__init__.py", "from .. import AsyncClient\nfrom ..embedded import serve\nimport rich.progress"),
    ("_cli/_a.py", "from lmstudio_async._cli import main\ndef f():\n    from .. import errors, _printable"),
]


@pytest.mark.parametrize(("path", "source"), ALLOWED)
def test_the_rules_accept_allowed_code(path: str, source: str) -> None:
    paths = ["_transport/__init__.py", "_client.py", "_llm.py", "_protocol/_b.py", "embedded/__init__.py"]
    tree = (
        FOUNDATION
        | dict.fromkeys([*paths, "embedded/_engine/_worker.py", "embedded/_catalog/_b.py"], "")
        | {"_printable.py": "", "_cli/__init__.py": "", path: source}
    )
    assert [complaint for rule in RULES for complaint in rule(tree)] == []

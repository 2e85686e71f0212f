"""``LMSTUDIO_LOG`` turns the log on in programs that have none of their own. Each test runs a program."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import lmstudio_sync
from lmstudio_async.testing import ModelsFolder

LINE = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (\w+) ([\w.]+): (.*)"

#: A client of each package, made before the program logs anything.
CLIENTS = {
    "lmstudio_async": "import lmstudio_async; client = lmstudio_async.AsyncClient('127.0.0.1:1')",
    "lmstudio_sync": "import lmstudio_sync; client = lmstudio_sync.Client('127.0.0.1:1')",
}
LOG = """
logger = logging.getLogger("lmstudio_async")
logger.info("an info")
logger.debug("a detail")
logging.getLogger("lmstudio_async.embedded").info("an info of the server")
"""


def lines(program: str, **environment: str) -> list[str]:
    """Run a program; return what it has written to stderr."""
    clean = {name: value for name, value in os.environ.items() if name != "LMSTUDIO_LOG"}
    done = subprocess.run(
        [sys.executable, "-c", f"import logging, sys\n{program}"],
        env=clean | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stderr.splitlines()


def parsed(written: list[str]) -> list[tuple[str, ...]]:
    matches = [re.fullmatch(LINE, line) for line in written]
    assert all(matches), written
    return [match.groups() for match in matches if match]


INFO = [
    ("INFO", "lmstudio_async", "an info"),
    ("INFO", "lmstudio_async.embedded", "an info of the server"),
]
DEBUG = [INFO[0], ("DEBUG", "lmstudio_async", "a detail"), INFO[1]]


@pytest.mark.parametrize("package", CLIENTS)
@pytest.mark.parametrize(("value", "expected"), [("info", INFO), ("debug", DEBUG), (" Debug ", DEBUG)])
def test_the_variable_turns_the_log_on_with_the_first_client(
    package: str, value: str, expected: list[tuple[str, ...]]
) -> None:
    program = f"{CLIENTS[package]}\n{CLIENTS[package]}\n{LOG}"
    assert parsed(lines(program, LMSTUDIO_LOG=value)) == expected


@pytest.mark.parametrize("package", CLIENTS)
@pytest.mark.parametrize("environment", [{}, {"LMSTUDIO_LOG": ""}])
def test_without_the_variable_nothing_is_logged_and_imported(
    package: str, environment: dict[str, str]
) -> None:
    program = f"{CLIENTS[package]}\n{LOG}\nassert 'lmstudio_async._log_setup' not in sys.modules"
    assert lines(program, **environment) == []


def test_a_wrong_value_causes_one_warning() -> None:
    program = f"{CLIENTS['lmstudio_async']}\n{CLIENTS['lmstudio_async']}\n{LOG}"
    assert lines(program, LMSTUDIO_LOG="verbose") == [
        "LMSTUDIO_LOG must be 'info' or 'debug', not 'verbose': the log stays as it is."
    ]


def test_a_changed_value_counts_for_the_next_client() -> None:
    client = f"import os\n{CLIENTS['lmstudio_async']}\n{LOG}"
    program = f"{client}\nos.environ['LMSTUDIO_LOG'] = 'debug'\n{client}"
    assert parsed(lines(program, LMSTUDIO_LOG="info")) == [*INFO, *DEBUG]
    assert parsed(lines(program, LMSTUDIO_LOG="verbose")[1:]) == DEBUG


def test_a_wrong_value_is_no_error_where_warnings_are_errors() -> None:
    program = f"import warnings; warnings.simplefilter('error')\n{CLIENTS['lmstudio_async']}\n{LOG}"
    assert len(lines(program, LMSTUDIO_LOG="1")) == 1


OWN_ROOT = "logging.basicConfig(format='mine: %(message)s', level=logging.WARNING)"
OWN_HANDLER = """
handler = logging.StreamHandler()
handler.setFormatter(logging.Formatter("mine: %(message)s"))
logging.getLogger("lmstudio_async").addHandler(handler)
"""


@pytest.mark.parametrize("own", [OWN_ROOT, OWN_HANDLER])
@pytest.mark.parametrize("before", [True, False])
def test_a_program_with_handlers_gets_the_lines_only_there(own: str, before: bool) -> None:
    client = CLIENTS["lmstudio_async"]
    program = f"{own}\n{client}\n{LOG}" if before else f"{client}\n{own}\n{LOG}"
    assert lines(program, LMSTUDIO_LOG="info") == ["mine: an info", "mine: an info of the server"]


SILENT = {
    "null handler": "logging.getLogger('lmstudio_async').addHandler(logging.NullHandler())",
    "no propagation": f"{OWN_ROOT}\nlogging.getLogger('lmstudio_async').propagate = False",
}


@pytest.mark.parametrize("own", SILENT)
def test_a_handler_that_writes_nothing_does_not_count(own: str) -> None:
    program = f"{SILENT[own]}\n{CLIENTS['lmstudio_async']}\n{LOG}"
    assert parsed(lines(program, LMSTUDIO_LOG="info")) == INFO


def test_a_level_of_the_program_stays() -> None:
    own = "logging.getLogger('lmstudio_async').setLevel(logging.WARNING)"
    assert lines(f"{own}\n{CLIENTS['lmstudio_async']}\n{LOG}", LMSTUDIO_LOG="debug") == []


def test_the_log_follows_a_replaced_stderr() -> None:
    program = f"""
{CLIENTS["lmstudio_async"]}
import io
old, sys.stderr = sys.stderr, io.StringIO()
{LOG}
new, sys.stderr = sys.stderr, old
assert "an info" in new.getvalue(), new.getvalue()
"""
    assert lines(program, LMSTUDIO_LOG="info") == []


def test_serve_logs_loads_and_the_reasons_of_unloads(tmp_path: Path) -> None:
    ModelsFolder(tmp_path).add_llm("qwen3-4b")
    arguments = ["serve", "--models", str(tmp_path), "--port", "0"]
    server = subprocess.Popen(
        [sys.executable, "-m", "lmstudio_async", *arguments],
        env=os.environ | {"LMSTUDIO_LOG": "info"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout and server.stderr
        place = re.search(r"http://(\S+)", server.stdout.readline())
        assert place
        with lmstudio_sync.Client(place[1], timeout=30) as client:
            client.llm.load_new_instance("qwen3-4b", "mine").unload()
            client.llm.model("qwen3-4b")
    finally:
        server.send_signal(signal.SIGINT)
        try:
            _, written = server.communicate(timeout=30)
        finally:
            server.kill()
    found = [line for line in parsed(written.splitlines()) if line[1] == "lmstudio_async.embedded"]
    assert found == [
        ("INFO", "lmstudio_async.embedded", text)
        for text in (
            "qwen3-4b was loaded as mine",
            'A client unloaded "mine".',
            "qwen3-4b was loaded as qwen3-4b",
            '"qwen3-4b" was unloaded, because the server was stopped.',
        )
    ]

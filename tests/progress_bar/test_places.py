"""`progress_bar`: where it draws and where not, and that its drawing never harms a load."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import types
from typing import Any

import pytest

import lmstudio_async as lms
from lmstudio_async import AsyncClient
from tests.program_terminal import program_in_terminal
from tests.progress_bar.terminals import (
    LIBRARIES,
    ROOT,
    BrokenTerminal,
    Terminal,
    draw_all,
    without_others,
)

pytestmark = pytest.mark.filterwarnings("error")


# -- terminals


CTRL_C = {
    "lmstudio_async": """
import anyio, lmstudio_async as lms
from tests.sync.quiet_server import QuietServer
async def main():
    async with lms.AsyncClient(QuietServer()) as client:
        await client.llm.load_new_instance("qwen3-4b", on_progress=lms.progress_bar("endless"))
anyio.run(main)
""",
    "lmstudio_sync": """
import lmstudio_sync as lms
from tests.sync.quiet_server import QuietServer
with lms.Client(QuietServer()) as client:
    client.llm.load_new_instance("qwen3-4b", on_progress=lms.progress_bar("endless"))
""",
}


@pytest.mark.parametrize("package", CTRL_C)
@pytest.mark.parametrize("library", LIBRARIES, ids=["rich", "tqdm", "lines"])
def test_ctrl_c_ends_the_bar_before_the_traceback(package: str, library: str) -> None:
    code = f"{without_others(library)}\n{CTRL_C[package]}"
    # Without colours: from Python 3.13 on, a traceback in a terminal has them.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHON_COLORS": "0"}
    with program_in_terminal([sys.executable, "-c", code], environment, folder=ROOT) as terminal:
        terminal.wait_for("endless")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.wait_for_end() == -signal.SIGINT
    bar, _, traceback = terminal.raw.replace("\r\n", "\n").partition("Traceback")
    assert "endless" in bar
    assert bar.endswith("\n")
    assert traceback.rstrip().endswith("KeyboardInterrupt")
    assert "\x1b[?25l" not in bar + traceback


@pytest.mark.parametrize("size", [(0, 0), (0, 80), (24, 80)], ids=str)
@pytest.mark.parametrize("library", LIBRARIES, ids=["rich", "tqdm", "lines"])
def test_a_terminal_of_any_size_gets_a_bar(library: str, size: tuple[int, int]) -> None:
    code = f"""{without_others(library)}
import lmstudio_async as lms
bar = lms.progress_bar("mine")
for part in (0.5, 1.0): bar(part)
"""
    rows, columns = size
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    with program_in_terminal(
        [sys.executable, "-c", code], environment, folder=ROOT, rows=rows, columns=columns
    ) as terminal:
        assert terminal.wait_for_end() == 0
    for mark in ("mine", "50", "100"):
        assert mark in terminal.raw


# -- where nothing is drawn


def test_nothing_is_drawn_without_a_terminal(streams: types.SimpleNamespace, library: str) -> None:
    draw_all(lms.progress_bar(), 0.5, 1.0)
    assert streams.stderr.getvalue() == ""


@pytest.mark.parametrize("stderr", [None, io.StringIO()], ids=["none", "closed"])
def test_nothing_is_drawn_without_standard_error(
    streams: types.SimpleNamespace, stderr: Any, library: str
) -> None:
    if stderr is not None:
        stderr.close()
    streams.stderr = stderr
    draw_all(lms.progress_bar(), 0.5, 1.0)


def test_the_variable_switches_bars_off(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setenv("LMSTUDIO_PROGRESS", "0")
    draw_all(lms.progress_bar(), 0.5, 1.0)
    assert terminal.getvalue() == ""


def test_the_variable_switches_lines_on_without_a_terminal(
    streams: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setenv("LMSTUDIO_PROGRESS", "1")
    draw_all(lms.progress_bar("x"), 0.5, 1.0)
    assert streams.stderr.getvalue() == "x: 50 %\nx: 100 %\n"


def test_a_terminal_that_cannot_move_its_cursor_gets_lines(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setenv("TERM", "dumb")
    draw_all(lms.progress_bar("x"), 0.5, 1.0)
    assert terminal.getvalue() == "x: 50 %\nx: 100 %\n"


@pytest.mark.parametrize(
    "error",
    [BrokenPipeError(32, "Broken pipe"), OSError(5, "I/O error"), ValueError("closed file")],
    ids=repr,
)
async def test_a_load_does_not_notice_that_its_bar_cannot_be_drawn(
    client: AsyncClient,
    error: Exception,
    streams: types.SimpleNamespace,
    library: str,
    capfd: pytest.CaptureFixture[str],
) -> None:
    streams.stderr = BrokenTerminal(error)
    llm = await client.llm.load_new_instance("tiny", on_progress=lms.progress_bar())
    await llm.unload()
    os.write(1, b"standard output still works")
    assert "still works" in capfd.readouterr().out


def test_a_library_that_breaks_does_not_break_a_load(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    from rich.progress import Progress

    def fail(self: object) -> None:
        raise TypeError("an incompatible version")

    monkeypatch.setattr(Progress, "refresh", fail)
    draw_all(lms.progress_bar(), 0.1, 0.5, 1.0)


# -- notebooks


@pytest.fixture
def notebook(streams: types.SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """A notebook's kernel, without widgets. Standard output is what the notebook shows."""
    shell = types.SimpleNamespace(kernel=object(), config={"IPKernelApp": {}})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    return streams.stdout  # type: ignore[no-any-return]


async def test_a_load_in_a_notebook_draws_with_tqdm(notebook: io.StringIO, client: AsyncClient) -> None:
    await (await client.llm.load_new_instance("tiny", on_progress=lms.progress_bar("cell"))).unload()
    assert "cell: 100%|" in notebook.getvalue()
    assert notebook.getvalue().endswith("\n")


async def test_a_load_in_a_notebook_without_tqdm_draws_lines(
    notebook: io.StringIO, client: AsyncClient, no_library: None
) -> None:
    await (await client.llm.load_new_instance("tiny", on_progress=lms.progress_bar("cell"))).unload()
    assert "cell: 100 %\n" in notebook.getvalue()


def test_ipython_in_a_terminal_is_no_notebook(
    monkeypatch: pytest.MonkeyPatch, terminal: Terminal, no_library: None
) -> None:
    shell = types.SimpleNamespace(config={})
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    lms.progress_bar("x")(1.0)
    assert terminal.getvalue() == "x: 100 %\n"


# -- cost


@pytest.mark.parametrize("package", ["lmstudio_async", "lmstudio_sync"])
def test_no_library_is_imported_until_a_bar_is_drawn(package: str) -> None:
    code = f"""
import sys, {package}
bar = {package}.progress_bar("x")
bar(0.5)
assert not {{"rich", "tqdm", "anyio", "asyncio"}} & set(sys.modules), "imported"
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")

"""State of the engine on this machine: usable, not installed, or impossible to import."""

from __future__ import annotations

from importlib.machinery import ModuleSpec
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import pytest

from lmstudio_async._install_command import install_command
from lmstudio_async.embedded import EngineState, engine_state
from tests.embedded.engines import UNLOADABLE_ENGINES


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module that processes import in place of the engine."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return tmp_path / "xllamacpp.py"


def hide(monkeypatch: pytest.MonkeyPatch, hidden: str) -> None:
    def find(name: str) -> ModuleSpec | None:
        return None if name == hidden else find_spec(name)

    monkeypatch.setattr("lmstudio_async._install_command.find_spec", find)


async def test_usable_engine_has_a_version_and_no_problem() -> None:
    assert await engine_state() == EngineState(version("xllamacpp"), (), None, None)


async def test_engine_that_is_not_installed_has_the_command_as_its_remedy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hide(monkeypatch, "xllamacpp")
    state = await engine_state()
    assert (state.version, state.missing) == (None, ("xllamacpp",))
    assert state.problem == "packages are not installed (xllamacpp)"
    assert (state.remedy or "").endswith(install_command("embedded"))


async def test_other_missing_packages_are_a_problem_too(monkeypatch: pytest.MonkeyPatch) -> None:
    hide(monkeypatch, "uvicorn")
    state = await engine_state()
    assert (state.version, state.missing) == (version("xllamacpp"), ("uvicorn",))
    assert (state.remedy or "").endswith(install_command("embedded"))


@pytest.mark.parametrize(
    ("program", "reason", "remedy"),
    [
        *UNLOADABLE_ENGINES,
        ("import os; os._exit(7)", "its import ends with exit code 7", "--force-reinstall"),
    ],
)
async def test_engine_that_cannot_be_imported_has_the_reason_and_a_remedy(
    program: str, reason: str, remedy: str, engine: Path
) -> None:
    engine.write_text(program)
    state = await engine_state()
    assert state.missing == ()
    assert (state.problem or "").startswith(f"xllamacpp {state.version} cannot be used: {reason}")
    assert remedy in (state.remedy or "")


async def test_engine_whose_import_hangs_is_a_problem_after_a_limited_time(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.write_text("import time; time.sleep(600)")
    monkeypatch.setattr("lmstudio_async.embedded._engine_state._IMPORT_SECONDS", 0.5)
    state = await engine_state()
    assert (state.problem or "").endswith("its import takes longer than 0.5 seconds")

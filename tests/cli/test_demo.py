"""The ``demo`` command: its steps with real models, its cleanup, and its interruption at any time."""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

import lmstudio_async as lms
from lmstudio_async._cli import _demo, _stage
from lmstudio_async._cli._exit_codes import NotFoundError
from lmstudio_async._cli._screen import Screen
from lmstudio_async.testing import ModelsFolder
from lmstudio_async.testing._tiny_models import write_llm
from tests.cli.commands import read_until, run, start
from tests.processes import is_running, workers

needs_signals = pytest.mark.skipif(
    sys.platform == "win32", reason="Windows has no SIGINT for other processes"
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf", script="One, two and three good reäsons.")
    folder.add_llm("acme/big-GGUF/big-F16.gguf", padding_mb=600)
    return folder.folder


# -- output


async def test_demo_shows_each_step_and_unloads_everything(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Shorter than the real TTL, but long enough for the first request to a new instance, also on a busy machine.
    monkeypatch.setattr(_demo, "TTL", 3)
    async with lms.AsyncClient(lms.EmbeddedServer(models, threads=1)) as client:
        with anyio.fail_after(30):
            await _demo.demo(client, "tiny", "second", Screen())
        assert await client.list_loaded_models() == []
    shown = capsys.readouterr().out
    assert "tiny: 100 % (loaded)" in shown
    assert "second: 100 % (loaded)" in shown
    assert (
        "  tiny         tiny        3600 s   2,048 tokens\n  second       tiny        3 s      2,048 tokens\n"
        in shown
    )
    assert "  One, two and three good reäsons.\n" in shown
    assert "second: 100 % (unloaded)" in shown
    assert shown.endswith("Unload tiny by its handle\n  Nothing is loaded.\n")


async def test_demos_that_begin_at_the_same_time_find_names_for_their_instances(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_demo, "TTL", 3)
    async with lms.AsyncClient(lms.EmbeddedServer(models, threads=1)) as client:
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(_demo.demo, client, "tiny", "second", Screen())
        assert await client.list_loaded_models() == []
    shown = capsys.readouterr().out
    for name in ("second", "second-2", "second-3"):
        assert shown.count(f"{name}: 100 % (unloaded)") == 1


class BrokenScreen(Screen):
    """A screen that fails when both instances are loaded."""

    def table(self, instances: Sequence[lms.AsyncLLM]) -> None:
        assert len(instances) == 3
        raise BrokenPipeError


async def test_demo_unloads_only_its_instances_when_it_fails(models: Path) -> None:
    async with lms.AsyncClient(lms.EmbeddedServer(models, threads=1)) as client:
        mine = await client.llm.load_new_instance("tiny", "mine")
        with pytest.raises(BrokenPipeError):
            await _demo.demo(client, "tiny", "mine", BrokenScreen())
        assert await client.list_loaded_models() == [mine]


async def test_demo_unloads_an_instance_that_outlives_its_ttl(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(_demo, "UNLOAD_DELAY", -_demo.TTL)
    async with lms.AsyncClient(lms.EmbeddedServer(models, threads=1)) as client:
        llm = await client.llm.load_new_instance("tiny", ttl=None)
        with anyio.fail_after(30):
            await _demo.watch_it_expire(client, llm, Screen())
        assert await client.list_loaded_models() == []
    assert "still there: unloading it" in capsys.readouterr().out


# -- the command


def test_demo_command_shows_its_milestones_and_exits_with_0(models: Path) -> None:
    # The encoding of the output lacks a letter that the model uses.
    done = run("demo", "--models", str(models), PYTHONIOENCODING="ascii")
    assert done.code == 0, done
    milestones = [
        f"Models  {models}",
        "Model   tiny (0.2 MB, llama, Q4_K_M)",
        "tiny: 100 % (loaded)",
        "second-instance: 100 % (loaded)",
        "identifier        model key   TTL      context",
        "One, two and three good re?sons.",
        "second-instance: 100 % (unloaded)",
        "Nothing is loaded.",
        "Done.",
    ]
    places = [done.out.find(milestone) for milestone in milestones]
    assert -1 not in places
    assert places == sorted(places)


@needs_signals
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_in_a_load_leaves_no_process_and_no_traceback(models: Path, number: int) -> None:
    # Try again if the load ended before the signal arrived, because then no load was interrupted.
    for _ in range(5):
        with start("demo", "--models", str(models), "--model", "big") as demo:
            # The percentage is unknown, because progress that arrives while the demo waits is conflated.
            read_until(demo.out, "(loading)")
            loaded = workers(demo.process.pid)
            # Send two signals, because a terminal and a program such as tox may each send one.
            demo.process.send_signal(number)
            code, out, err = demo.interrupt(number)
            assert code == 130
        assert loaded or not Path("/proc/self/task").exists()
        assert not any(map(is_running, loaded))
        assert err.endswith("Interrupted. Nothing that the demo loaded is left.\n")
        if "100 %" not in out:
            break
    assert "100 %" not in out


@needs_signals
def test_demo_exits_with_1_if_its_output_is_closed(models: Path) -> None:
    with start("demo", "--models", str(models), "--model", "big") as demo:
        read_until(demo.out, "big: 0 %")
        demo.out.close()
        assert demo.process.wait(timeout=30) == 1


# -- the model of the package


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed package with the model's file, which must not be imported, on a machine without models."""
    place = tmp_path / "site-packages" / _stage.PACKAGE
    place.mkdir(parents=True)
    (place / "__init__.py").write_text("raise AssertionError('this package must not be imported')")
    write_llm(place / _stage.PACKAGE_FILE, name="SmolLM2 135M Instruct")
    monkeypatch.syspath_prepend(place.parent)
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return place


@pytest.mark.parametrize("key", [None, _stage.PACKAGE_MODEL])
@pytest.mark.parametrize("can_link", [True, False])
async def test_without_models_the_package_model_is_put_into_a_temporary_folder(
    package: Path, key: str | None, can_link: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not can_link:

        def refuse(self: Path, target: Path) -> None:
            raise OSError("another file system")

        monkeypatch.setattr(Path, "hardlink_to", refuse)
    original = package / _stage.PACKAGE_FILE
    async with _stage._models(None, key, Screen()) as folder:
        async with lms.AsyncClient(lms.EmbeddedServer(folder)) as client:
            (model,) = await client.llm.list_downloaded()
            assert model.model_key == _stage.PACKAGE_MODEL
        assert isinstance(folder, Path)
        assert (folder / model.path).samefile(original) == can_link
    assert not folder.exists()
    assert original.exists()


@pytest.mark.usefixtures("package")
async def test_error_for_an_unknown_model_names_the_package_model() -> None:
    with pytest.raises(NotFoundError, match=f"Choose another one with --model: {_stage.PACKAGE_MODEL}"):
        async with _stage._models(None, "nope", Screen()):
            pass


async def test_models_in_the_default_folder_take_precedence_over_the_package_model(
    package: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = lms.EmbeddedServer().models[0]
    ModelsFolder(folder).add_llm("acme/mine-GGUF/mine-Q8_0.gguf")
    async with _stage._models(None, None, Screen()) as found:
        assert found is None
    # The package is used if the folder lacks the requested model.
    async with _stage._models(None, _stage.PACKAGE_MODEL, Screen()) as found:
        assert found not in (None, folder)

"""`lmsa load`: new instances, their settings, progress, and Ctrl-C."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

import lmstudio_sync as lms
from lmstudio_async import AsyncSystemNamespace, EmbeddedServer
from lmstudio_async._cli import main
from lmstudio_async.testing import ModelsFolder, served
from tests.cli.commands import command_in_terminal, read_line, run, start
from tests.processes import HeldLoads, is_running
from tests.program_terminal import CTRL_C

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for other processes")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf")
    folder.add_llm("acme/other-GGUF/other-Q4_K_M.gguf")
    folder.add_llm("acme/twin-GGUF/twin-Q4_K_M.gguf")
    folder.add_llm("acme/twin-GGUF/twin-Q8_0.gguf")
    folder.add_embedding("acme/vectors-GGUF/text-embedding-vectors-F16.gguf")
    return folder.folder


@pytest.fixture(scope="module")
def address(models: Path) -> Iterator[str]:
    with served(EmbeddedServer(models)) as host:
        yield host


@pytest.fixture
def client(address: str) -> Iterator[lms.Client]:
    """A client of a server on which nothing is loaded."""
    with lms.Client(address) as client:
        yield client
        for model in client.list_loaded_models():
            model.unload()


@pytest.fixture
def host(address: str, client: lms.Client, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of the server, which commands find in the environment."""
    assert client.list_loaded_models() == []
    monkeypatch.setenv("LMSTUDIO_HOST", address)
    return address


@pytest.fixture
def tiny_just_in_time(client: lms.Client) -> None:
    """An instance of tiny, loaded just in time. A fixture, because it must come before the one that holds loads."""
    client.llm.model("tiny")


@pytest.mark.usefixtures("host")
def test_load_prints_the_identifier_of_each_new_instance() -> None:
    code, output, errors = run("load", "tiny")
    assert (code, output) == (0, "tiny\n")
    assert errors.startswith("Loaded tiny in ")
    assert errors.count("\n") == 1
    assert "\x1b" not in errors

    assert run("load", "tiny", "--quiet") == (0, "tiny:2\n", "")


@pytest.mark.usefixtures("host")
def test_load_json_has_the_instance_as_ps_lists_it() -> None:
    loaded = run("load", "tiny", "--as", "chat", "--ttl", "1h30m", "-c", "512", "--json").json

    (listed,) = run("ps", "--json").json
    assert loaded == {name: listed[name] for name in loaded}
    assert (loaded["identifier"], loaded["ttl"], loaded["context_length"]) == ("chat", 5400, 512)
    assert loaded["kind"] == "llm"


def test_load_without_a_ttl_loads_for_ever(host: str, client: lms.Client) -> None:
    assert run("load", "tiny", "--host", host).code == 0
    assert run("load", "tiny", "--host", host, "--ttl", "never").code == 0
    assert [llm.info.ttl for llm in client.llm.list_loaded()] == [None, None]


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("key", ["text-embedding-vectors", "acme/vectors-GGUF"])
@pytest.mark.parametrize("ensure", [[], ["--ensure"]])
def test_load_finds_out_that_a_model_is_an_embedding_model(key: str, ensure: list[str]) -> None:
    loaded = run("load", key, "--as", "mine", "--json", *ensure)
    assert loaded.code == 0, loaded.err
    assert loaded.json["kind"] == "embedding"
    assert loaded.json["model_key"] == "text-embedding-vectors"


@pytest.mark.usefixtures("host")
def test_load_passes_the_settings_to_the_server(client: lms.Client) -> None:
    settings = ("flash_attention=true", "seed=7", "llama_k_cache_quantization_type=q8_0", "gpu.ratio=off")
    options = [text for setting in settings for text in ("--config", setting)]
    loaded = run("load", "tiny", "--context", "1024", *options)
    assert loaded.code == 0, loaded.err

    config = client.llm.list_loaded()[0].get_load_config()
    assert (config.context_length, config.flash_attention, config.seed) == (1024, True, 7)
    assert config.llama_k_cache_quantization_type == "q8_0"
    assert config.gpu is not None
    assert config.gpu.ratio == "off"


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--config", "contxt_length=512"], "Did you mean 'context_length'?"),
        (["--config", "gpu.rato=0.5"], "Did you mean 'gpu.ratio'?"),
        (["--config", "seed=often"], "seed"),
        (["--config", "seed"], "'seed' is not NAME=VALUE"),
        (["--config", "gpu.=1"], "is not NAME=VALUE"),
        (["-c", "512", "--config", "context_length=1024"], "context_length is given twice"),
        (["-c", "512", "--config", "contextLength=1024"], "context_length"),
        (["--config", "seed=7", "--config", "seed.x=8"], "seed.x is given twice"),
        (["--gpu", "all"], "'all' is neither max, nor off"),
        (["--gpu", "nan"], "'nan' is neither max, nor off"),
        (["--ttl", "7w"], "'7w' is not a duration"),
        (["--ttl", "0"], "0 would unload the model at once"),
        (["-c", "0"], "Invalid value for '--context'"),
    ],
)
def test_load_with_wrong_settings_exits_with_2_and_loads_nothing(
    options: list[str],
    message: str,
    client: lms.Client,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Wide enough for a message on one line.
    monkeypatch.setenv("COLUMNS", "300")
    assert main(["load", "tiny", *options]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert message in shown.err
    assert client.list_loaded_models() == []


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("gpu", [["--gpu", "max"], ["--config", "gpu.ratio=0.5"]])
def test_load_for_a_gpu_that_is_not_there_says_so(gpu: list[str], client: lms.Client) -> None:
    code, output, errors = run("load", "tiny", *gpu)
    assert (code, output) == (0, "tiny\n")
    config = client.llm.list_loaded()[0].get_load_config()
    assert config.gpu is not None
    # On a machine with a GPU there is nothing to say.
    is_missing = config.gpu.ratio == "off"
    assert ("tiny runs on the CPU, because the server finds no GPU" in errors) == is_missing
    assert "CPU" not in run("load", "tiny", "--gpu", "off").err
    assert run("load", "tiny", *gpu, "--quiet").err == ""
    asked = run("run", "other", "hi", "--config", "gpu.ratio=max")
    assert ("other runs on the CPU" in asked.err) == is_missing


@pytest.mark.usefixtures("host")
def test_load_of_an_unknown_model_exits_with_4_and_names_others() -> None:
    code, output, errors = run("load", "tyny")
    assert (code, output) == (4, "")
    first, last = errors.splitlines()
    assert first.startswith("lmsa: There is no model 'tyny'. Did you mean 'tiny'? There are: ")
    assert last == "To download it: lmsa pull tyny"

    assert "Did you mean 'text-embedding-vectors'?" in run("load", "text-embedding-vektors").err


@pytest.mark.usefixtures("host")
def test_load_tells_which_of_several_models_it_takes() -> None:
    code, output, errors = run("load", "twin")
    assert (code, output) == (0, "twin\n")
    note, loaded = errors.splitlines()
    assert note == "twin matches several models: twin@q4_k_m, twin@q8_0. Loading twin@q4_k_m."
    assert loaded.startswith("Loaded twin@q4_k_m in ")


@pytest.mark.usefixtures("host")
def test_load_under_a_name_in_use_exits_with_1() -> None:
    run("load", "tiny", "--as", "mine")
    code, output, errors = run("load", "other", "--as", "mine")
    assert (code, output) == (1, "")
    fact, advice = errors.splitlines()
    assert "mine" in fact
    assert advice == (
        "Choose another name with --as, add --ensure to use that instance if it fits, or unload it first: "
        "lmsa unload mine"
    )


def test_advice_to_unload_names_the_same_server(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LMSTUDIO_HOST")
    run("load", "tiny", "--as", "mine", "--host", host)
    line = f"lmsa unload mine --host {host}"
    for arguments in (("load", "other"), ("load", "other", "--ensure")):
        failed = run(*arguments, "--as", "mine", "--host", host)
        assert failed.err.endswith(f": {line}\n"), failed
    used = run("run", "mine", "Hi", "-c", "999999", "--host", host)
    assert line in used.err.splitlines()[0], used
    wrong = run("embed", "mine", "Hi", "--host", host)
    assert wrong.err.endswith(f": lmsa run mine PROMPT --host {host}\n"), wrong
    stays = run("run", "other", "Hi", "--ttl", "never", "--host", host)
    assert stays.err.endswith(f": lmsa load other --ttl never --host {host}\n"), stays


@pytest.mark.parametrize("command", [["load", "tiny"], ["ps"], ["top"], ["events"], ["unload", "tiny"]])
def test_commands_for_instances_exit_with_3_without_a_server_that_stays(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*command, "--host", "embedded"]) == 3
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.endswith("lmsa serve\n")


@pytest.mark.usefixtures("host")
def test_load_ends_if_the_server_does_not_list_its_models(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(_: AsyncSystemNamespace) -> None:
        await anyio.sleep_forever()

    monkeypatch.setattr("lmstudio_async._cli._model_kinds._LONGEST_LIST", 0.01)
    monkeypatch.setattr(AsyncSystemNamespace, "list_downloaded_models", never)
    assert main(["load", "tiny"]) == 1
    assert capsys.readouterr().err.endswith(" did not list its models within 0.01 seconds.\n")


@pytest.mark.usefixtures("host")
def test_load_ensure_loads_once_and_reports_other_settings() -> None:
    first = run("load", "tiny", "--as", "mine", "-c", "512", "--ensure", "--json")
    assert first.err.startswith("Loaded tiny in ")

    second = run("load", "tiny", "--as", "mine", "-c", "512", "--ensure", "--json")
    assert second.err == "mine was loaded already.\n"
    assert second.json == first.json

    code, output, errors = run("load", "tiny", "--as", "mine", "-c", "1024", "--ensure")
    assert (code, output) == (1, "")
    fact, advice = errors.splitlines()
    assert "context_length" in fact
    assert advice == (
        "Leave these settings out, choose another name with --as, or unload the instance first: lmsa unload mine"
    )

    code, output, errors = run("load", "other", "--as", "mine", "--ensure")
    assert (code, output) == (1, "")
    fact, advice = errors.splitlines()
    assert "model_key should be 'other', and is 'tiny'" in fact
    assert advice == "Choose another name with --as, or unload the instance first: lmsa unload mine"


@pytest.mark.usefixtures("host")
def test_load_names_the_instances_that_make_room(
    client: lms.Client,
    tiny_just_in_time: None,
    held_loads: HeldLoads,
) -> None:
    other = threading.Thread(target=client.llm.model, args=["other"], daemon=True)
    other.start()
    held_loads.get()

    # It joins the just-in-time load of the other client, which evicts.
    with start("load", "other", "--ensure") as command:
        assert read_line(command.err) == "Evicting tiny to make room.\n"
        held_loads.let_go()
        code, output, errors = command.end()
    other.join(20)
    assert (code, output) == (0, "other\n")
    assert errors.startswith("Loaded other in ")


# -- Ctrl-C


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("ensure", [[], ["--ensure"]])
def test_ctrl_c_cancels_the_load_on_the_server(
    ensure: list[str], client: lms.Client, held_loads: HeldLoads
) -> None:
    with start("load", "tiny", *ensure) as command:
        worker = held_loads.get()
        code, output, errors = command.interrupt()
    assert (code, output) == (130, "")
    assert errors == "\nInterrupted. The load is cancelled.\n"
    assert not is_running(worker)
    assert client.list_loaded_models() == []


# -- the bar


@pytest.mark.usefixtures("host")
def test_load_draws_a_bar_on_a_terminal_and_only_the_result_on_the_output(held_loads: HeldLoads) -> None:
    with command_in_terminal("load", "tiny", has_output=False) as terminal:
        held_loads.get()
        terminal.wait_for("loading tiny")
        if "MB/s" not in terminal.shown:
            terminal.wait_for("MB/s")
        held_loads.let_go()
        terminal.wait_for("Loaded tiny in ")
        assert terminal.wait_for_end() == 0
        assert terminal.read_output() == "tiny\n"
    # The cursor was never hidden.
    assert "\x1b[?25l" not in terminal.raw


@pytest.mark.usefixtures("host")
def test_ctrl_c_in_a_terminal_removes_the_bar(held_loads: HeldLoads, client: lms.Client) -> None:
    with command_in_terminal("load", "tiny", NO_COLOR="1") as terminal:
        held_loads.get()
        terminal.wait_for("loading")
        terminal.type(CTRL_C)
        assert terminal.wait_for_end() == 130
    assert "\x1b[?25l" not in terminal.raw
    visible = [line.rpartition("\r\x1b[K")[2].strip("\r") for line in terminal.raw.split("\n")]
    assert [line for line in visible if line] == ["Interrupted. The load is cancelled."]
    assert client.list_loaded_models() == []


@pytest.mark.usefixtures("host")
def test_quiet_load_draws_nothing() -> None:
    with command_in_terminal("load", "tiny", "--quiet") as terminal:
        assert terminal.wait_for_end() == 0
    assert terminal.raw == "tiny\r\n"


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize(("term", "wish"), [("xterm", "0"), ("dumb", "")])
def test_load_draws_no_bar_if_the_terminal_cannot_or_the_user_does_not_want_it(term: str, wish: str) -> None:
    with command_in_terminal("load", "tiny", TERM=term, LMSTUDIO_PROGRESS=wish) as terminal:
        assert terminal.wait_for_end() == 0
    assert "\x1b" not in terminal.raw
    assert "loading" not in terminal.shown
    assert "Loaded tiny in " in terminal.shown


@pytest.mark.usefixtures("host")
def test_load_prints_lines_without_a_terminal_if_the_user_wants_them() -> None:
    code, output, errors = run("load", "tiny", LMSTUDIO_PROGRESS="1")
    assert (code, output) == (0, "tiny\n")
    assert "tiny: 100 %\n" in errors
    assert run("load", "tiny", "--quiet", LMSTUDIO_PROGRESS="1").err == ""


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("columns", [40, 80, 200])
def test_the_bar_fits_the_terminal(columns: int, held_loads: HeldLoads) -> None:
    with command_in_terminal("load", "tiny", columns=columns, NO_COLOR="1") as terminal:
        held_loads.get()
        terminal.wait_for("loading tiny")
        held_loads.let_go()
        assert terminal.wait_for_end() == 0
    drawn = [part for line in terminal.raw.split("\n") for part in line.split("\r\x1b[K")]
    assert any("loading tiny" in line for line in drawn)
    assert all(len(line.rstrip("\r")) < columns for line in drawn if "%" in line)


@pytest.mark.usefixtures("host")
def test_notes_stand_above_the_bar_and_stay(held_loads: HeldLoads) -> None:
    with command_in_terminal("load", "twin", NO_COLOR="1") as terminal:
        held_loads.get()
        terminal.wait_for("loading twin@q4_k_m")
        held_loads.let_go()
        assert terminal.wait_for_end() == 0
    visible = [line.rpartition("\r\x1b[K")[2].strip("\r") for line in terminal.raw.split("\n")]
    note, loaded, identifier, end = visible
    assert note == "twin matches several models: twin@q4_k_m, twin@q8_0. Loading twin@q4_k_m."
    assert loaded.startswith("Loaded twin@q4_k_m in ")
    assert (identifier, end) == ("twin", "")

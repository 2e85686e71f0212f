"""Images for models with vision, with a real projector."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from lmstudio_async import AsyncClient, Chat
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.errors import LMStudioServerError
from lmstudio_async.testing import ModelsFolder
from tests.embedded.raw_client import Json, RawClient, Refused, connected, text_of
from tests.embedded.raw_predictions import ask, checked, message, user
from tests.images import png

RED = base64.b64encode(png(255, 0, 0)).decode()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm("acme/seer-GGUF/seer-Q8_0.gguf", script="I see it")
    folder.add_projector("acme/seer-GGUF/mmproj-seer-F16.gguf")
    return folder.folder


def part(identifier: str) -> Json:
    return {"type": "file", "name": "a.png", "identifier": identifier, "sizeBytes": 97, "fileType": "image"}


async def test_a_vision_model_accepts_uploaded_and_inline_images(
    server: EmbeddedServer, client: RawClient
) -> None:
    async with connected(server, "files") as files:
        uploaded = await files.call("uploadFileBase64", {"name": "a.png", "contentBase64": RED})
        blind = (await ask(client, "seer", {}, user("What?")))[-1]
        assert blind["modelInfo"]["vision"] is True
        for identifier in (uploaded["identifier"], f"local:{uploaded['identifier']}", f"base64:{RED}"):
            packets = await ask(client, "seer", {}, message("user", "What?", part(identifier)))
            assert text_of(packets) == "I see it"
            # Four patches are four tokens.
            more = packets[-1]["stats"]["promptTokensCount"] - blind["stats"]["promptTokensCount"]
            assert more == 4


async def test_probabilities_come_with_an_answer_about_an_image_too(client: RawClient) -> None:
    packets = await ask(
        client, "seer", {"logProbs": checked(1)}, message("user", "What?", part(f"base64:{RED}"))
    )
    fragments = [packet["fragment"] for packet in packets if packet["type"] == "fragment"]
    assert [token["text"] for fragment in fragments for token in fragment["tokens"]] == ["I see", " it"]


async def test_a_damaged_image_is_refused_with_a_reason(client: RawClient) -> None:
    broken = base64.b64encode(png(1, 2, 3)[:40]).decode()
    with pytest.raises(Refused, match="image"):
        await ask(client, "seer", {}, message("user", "What?", part(f"base64:{broken}")))
    assert text_of(await ask(client, "seer")) == "I see it"


async def test_a_file_that_is_no_image_is_refused(client: RawClient) -> None:
    with pytest.raises(Refused, match="not an image"):
        await ask(client, "seer", {}, message("user", "What?", part("base64:aGVsbG8=")))


async def test_an_image_of_an_unsupported_format_is_refused(client: RawClient) -> None:
    webp = base64.b64encode(b"RIFF\x24\0\0\0WEBPVP8 ").decode()
    with pytest.raises(Refused, match="WebP") as refused:
        await ask(client, "seer", {}, message("user", "What?", part(f"base64:{webp}")))
    assert refused.value.code == "generic.engineDoesNotSupportFeature"
    assert "PNG or JPEG" in refused.value.error["suggestion"]


async def test_model_with_a_projector_of_another_model_answers_without_vision(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    models = ModelsFolder(tmp_path / "models")
    models.add_llm("acme/eye-GGUF/eye-Q8_0.gguf", script="In words")
    models.add_projector("acme/eye-GGUF/mmproj-F16.gguf", metadata={"clip.projector_type": "of the future"})
    fractions: list[float] = []
    async with EmbeddedServer(models.folder, threads=1) as server, AsyncClient(server) as client:
        model = await client.llm.load_new_instance("eye", on_progress=fractions.append)
        assert (await model.get_info()).vision is False
        assert (await model.respond("What?")).content == "In words"
        chat = Chat()
        chat.add_user_message("What?", images=[await client.prepare_image(png(255, 0, 0), "a.png")])
        with pytest.raises(LMStudioServerError, match="projector does not work: .*mmproj-F16"):
            await model.respond(chat)
    assert fractions == sorted(fractions)
    assert "acme/eye-GGUF/eye-Q8_0.gguf has no vision" in caplog.text


async def test_broken_model_with_a_projector_does_not_load(tmp_path: Path) -> None:
    models = ModelsFolder(tmp_path / "models")
    models.add_broken("acme/eye-GGUF/eye-Q8_0.gguf", "missing tensor")
    models.add_projector("acme/eye-GGUF/mmproj-F16.gguf")
    async with EmbeddedServer(models.folder, threads=1) as server, AsyncClient(server) as client:
        with pytest.raises(LMStudioServerError, match="attn_k_norm.weight' not found"):
            await client.llm.load_new_instance("eye")

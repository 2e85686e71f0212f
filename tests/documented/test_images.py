"""The page on images, with a tiny model, because no package ships a real model that accepts images."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documented.conftest import Models
from tests.images import png


@pytest.fixture
def image_path(tmp_path: Path) -> str:
    path = tmp_path / "image.png"
    path.write_bytes(png(255, 0, 0))
    return str(path)


def test_an_image_is_described(models: Models, image_path: str) -> None:
    import lmstudio_sync as lms

    image_handle = lms.prepare_image(image_path)
    model = lms.llm(models.seeing)
    chat = lms.Chat()
    chat.add_user_message("Describe this image please", images=[image_handle])
    prediction = model.respond(chat)

    assert (image_handle.name, image_handle.file_type) == ("image.png", "image")
    assert str(prediction) == "A red square"


def test_an_image_is_described_in_a_scope(models: Models, image_path: str) -> None:
    import lmstudio_sync as lms

    with lms.Client() as client:
        image_handle = client.files.prepare_image(image_path)
        model = client.llm.model(models.seeing)
        chat = lms.Chat()
        chat.add_user_message("Describe this image please", images=[image_handle])
        prediction = model.respond(chat)

    assert str(prediction) == "A red square"


async def test_an_image_is_described_in_async_form(models: Models, image_path: str) -> None:
    import lmstudio_async as lms

    async with lms.AsyncClient() as client:
        image_handle = await client.files.prepare_image(image_path)
        model = await client.llm.model(models.seeing)
        chat = lms.Chat()
        chat.add_user_message("Describe this image please", images=[image_handle])
        prediction = await model.respond(chat)

    assert str(prediction) == "A red square"


def test_an_image_may_be_bytes_or_an_open_file(image_path: str) -> None:
    import lmstudio_sync as lms

    with Path(image_path).open("rb") as file:
        handle = lms.prepare_image(file)
    assert handle.size_bytes == lms.prepare_image(Path(image_path).read_bytes()).size_bytes

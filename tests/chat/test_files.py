"""Images and files: uploaded from paths, bytes and open files, and used in prompts."""

from __future__ import annotations

import io
import os
from pathlib import Path

import anyio
import pytest

from lmstudio_async import AsyncClient, Chat, FileHandle, LMStudioOSError, LMStudioValueError
from tests.images import png

RED = png(255, 0, 0)


async def test_an_image_is_prepared_from_a_path(client: AsyncClient, tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    path.write_bytes(RED)

    for src in (path, str(path)):
        image = await client.prepare_image(src)
        assert isinstance(image, FileHandle)
        assert (image.name, image.size_bytes, image.file_type) == ("red.png", len(RED), "image")
        assert image.identifier


async def test_an_image_is_prepared_from_bytes(client: AsyncClient) -> None:
    first = await client.prepare_image(RED)
    second = await client.files.prepare_image(bytearray(RED))
    third = await client.prepare_image(memoryview(RED), name="mine.png")

    assert first.name
    assert first.name != second.name
    assert third.name == "mine.png"


async def test_an_image_is_prepared_from_an_open_file(client: AsyncClient, tmp_path: Path) -> None:
    path = tmp_path / "red.png"
    path.write_bytes(RED)
    with path.open("rb") as file:
        assert (await client.prepare_image(file)).name == "red.png"

    assert (await client.prepare_image(io.BytesIO(RED), "red.png")).size_bytes == len(RED)


async def test_a_file_of_any_kind_is_prepared(client: AsyncClient, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("Buy milk")
    file = await client.prepare_file(path)

    assert (file.name, file.size_bytes) == ("notes.txt", 8)
    assert file.file_type.startswith("text/")


async def test_an_image_adds_tokens_to_the_prompt(client: AsyncClient) -> None:
    llm = await client.llm.model("eye")
    image = await client.prepare_image(RED, "red.png")
    chat = Chat()
    chat.add_user_message("What is this?", images=[image])
    blind = await llm.respond("What is this?")
    seeing = await llm.respond(chat)

    assert seeing.content == "A cat"
    assert seeing.stats.prompt_tokens_count > blind.stats.prompt_tokens_count  # type: ignore[operator]


async def test_a_file_that_cannot_be_read_raises_an_lmstudio_os_error(
    client: AsyncClient, tmp_path: Path
) -> None:
    with pytest.raises(LMStudioOSError) as caught:
        await client.prepare_image(tmp_path / "not there.png")
    assert isinstance(caught.value, OSError)
    assert caught.value.filename == str(tmp_path / "not there.png")
    with pytest.raises(LMStudioOSError):
        await client.prepare_file(tmp_path)


async def test_invalid_file_arguments_are_refused(client: AsyncClient, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(LMStudioValueError, match="not as 42"):
        await client.prepare_image(42)  # type: ignore[arg-type]
    with pytest.raises(LMStudioValueError, match="mode 'rb'"):
        await client.prepare_image(io.StringIO("text"))  # type: ignore[arg-type]
    with pytest.raises(LMStudioValueError, match="is empty"):
        await client.prepare_image(tmp_path / "empty")
    closed = io.BytesIO(RED)
    closed.close()
    with pytest.raises(LMStudioValueError, match="closed"):
        await client.prepare_image(closed)
    with pytest.raises(LMStudioValueError, match="name"):
        await client.prepare_image(RED, name="")


async def test_a_slow_file_does_not_hold_up_the_others(lone_client: AsyncClient, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lone_client.prepare_image, pipe)
        # Reading the pipe blocks until the write below, so this line is only reached if a thread reads it.
        assert await lone_client.llm.list_loaded() == []
        async with await anyio.open_file(pipe, "wb") as file:
            await file.write(RED)

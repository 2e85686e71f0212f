"""Deletion of downloaded models: all of their files and nothing else, and only from the folders of the server."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lmstudio_async import AsyncClient, EmbeddedServer, LMStudioModelNotFoundError, LMStudioServerError
from lmstudio_async.testing import ModelsFolder

TINY = "acme/tiny-GGUF/tiny-Q4_K_M.gguf"

needs_links = pytest.mark.skipif(os.name != "posix", reason="links need a right that not every user has")


def files(folder: Path) -> list[str]:
    return sorted(str(each.relative_to(folder)) for each in folder.rglob("*"))


async def test_model_is_deleted_with_its_empty_folders(models: ModelsFolder) -> None:
    size = models.add_llm(TINY).stat().st_size
    models.add_llm("other/kept-GGUF/kept-Q8_0.gguf")
    assert await EmbeddedServer(models.folder).delete_model("tiny") == size
    assert files(models.folder) == ["other", "other/kept-GGUF", "other/kept-GGUF/kept-Q8_0.gguf"]


async def test_deleted_model_is_not_listed_any_more_by_a_running_server(models: ModelsFolder) -> None:
    models.add_llm(TINY)
    models.add_embedding("acme/embed-GGUF/embed-F32.gguf")
    server = EmbeddedServer(models.folder, threads=1)
    async with server, AsyncClient(server) as client:
        await server.delete_model("text-embedding-embed")
        assert [model.model_key for model in await client.list_downloaded_models()] == ["tiny"]
        with pytest.raises(LMStudioModelNotFoundError):
            await server.delete_model("text-embedding-embed")


async def test_all_parts_are_deleted_and_the_projector_with_its_last_model(models: ModelsFolder) -> None:
    for number in (1, 2):
        models.add_llm(f"acme/big/big-Q8_0-0000{number}-of-00002.gguf")
    models.add_llm("acme/big/big-Q4_0.gguf")
    models.add_projector("acme/big/mmproj-F16.gguf")
    server = EmbeddedServer(models.folder)
    await server.delete_model("big@q8_0")
    assert files(models.folder / "acme/big") == ["big-Q4_0.gguf", "mmproj-F16.gguf"]
    await server.delete_model("big")
    assert files(models.folder) == []


async def test_key_of_several_models_is_refused(models: ModelsFolder) -> None:
    for name in ("Q4_K_M", "Q8_0"):
        models.add_llm(f"acme/tiny-GGUF/tiny-{name}.gguf")
    with pytest.raises(LMStudioServerError, match="means several models: tiny@q4_k_m, tiny@q8_0"):
        await EmbeddedServer(models.folder).delete_model("tiny")
    assert len(files(models.folder)) == 4


async def test_loaded_model_is_not_deleted(models: ModelsFolder) -> None:
    file = models.add_llm(TINY)
    server = EmbeddedServer(models.folder, threads=1)
    async with server, AsyncClient(server) as client:
        llm = await client.llm.load_new_instance("tiny", "mine")
        with pytest.raises(LMStudioServerError, match='"tiny" is loaded as "mine"'):
            await server.delete_model("tiny")
        assert file.exists()
        await llm.unload()
        await server.delete_model("tiny")
        assert not file.exists()


async def test_single_file_is_not_deleted(models: ModelsFolder) -> None:
    file = models.add_llm(TINY)
    with pytest.raises(LMStudioServerError, match="single file that the server was given") as caught:
        await EmbeddedServer(file).delete_model("tiny")
    assert str(file) in caught.value.server_error["suggestion"]
    assert file.exists()


@needs_links
async def test_model_in_the_cache_of_hugging_face_is_not_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    cache = ModelsFolder(tmp_path / "cache")
    blob = cache.add_llm("models--acme--tiny-GGUF/blobs/0a1b.gguf")
    snapshot = cache.folder / "models--acme--tiny-GGUF" / "snapshots" / "0a1b"
    snapshot.mkdir(parents=True)
    (snapshot / "tiny-Q4_K_M.gguf").symlink_to(blob)
    before = files(cache.folder)
    with pytest.raises(LMStudioServerError, match='"tiny" is in the cache of Hugging Face') as caught:
        await EmbeddedServer().delete_model("tiny")
    assert caught.value.server_error["suggestion"] == "Delete it with them: hf cache rm model/acme/tiny-GGUF"
    assert files(cache.folder) == before


@needs_links
async def test_of_a_link_only_the_link_is_deleted(models: ModelsFolder, tmp_path: Path) -> None:
    blob = ModelsFolder(tmp_path / "elsewhere").add_llm("blob.gguf")
    (models.folder / "linked-Q8_0.gguf").symlink_to(blob)
    assert await EmbeddedServer(models.folder).delete_model("linked") == 0
    assert files(models.folder) == []
    assert blob.exists()


@needs_links
async def test_model_behind_a_link_to_a_folder_is_not_deleted(models: ModelsFolder, tmp_path: Path) -> None:
    file = ModelsFolder(tmp_path / "elsewhere").add_llm(TINY)
    (models.folder / "acme").symlink_to(tmp_path / "elsewhere" / "acme")
    with pytest.raises(LMStudioServerError, match="behind a link in the models folder"):
        await EmbeddedServer(models.folder).delete_model("tiny")
    assert file.exists()


@needs_links
@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may delete everything")
async def test_file_that_may_not_be_deleted_is_an_error(models: ModelsFolder) -> None:
    file = models.add_llm(TINY)
    file.parent.chmod(0o500)
    try:
        with pytest.raises(LMStudioServerError, match="cannot be deleted: Permission denied"):
            await EmbeddedServer(models.folder).delete_model("tiny")
    finally:
        file.parent.chmod(0o700)
    assert file.exists()

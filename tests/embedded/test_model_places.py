"""The places that a server is given for its models: a folder, GGUF files, or several of these."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from lmstudio_async import (
    AsyncClient,
    LMStudioError,
    LMStudioModelNotFoundError,
    LMStudioOSError,
    LMStudioServerError,
    LMStudioValueError,
)
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.testing import ModelsFolder
from tests.embedded.local_hub import LocalHub

TINY = "acme/tiny-GGUF/tiny-Q4_K_M.gguf"


@pytest.fixture
def other(tmp_path: Path) -> ModelsFolder:
    """A second folder, in which the tests have single files too."""
    return ModelsFolder(tmp_path / "other")


async def paths(*places: str | os.PathLike[str]) -> dict[str, str]:
    """Return the models of a server with these places: key -> path."""
    async with AsyncClient(EmbeddedServer(places, threads=1)) as client:
        return {model.model_key: model.path for model in await client.list_downloaded_models()}


async def answer(server: EmbeddedServer, key: str) -> str:
    async with AsyncClient(server) as client:
        return str(await (await client.llm.model(key)).respond("Hello"))


# -- single files


async def test_a_gguf_file_is_the_only_model_of_its_server(models: ModelsFolder) -> None:
    file = models.add_llm(TINY, script="Here I am")
    models.add_llm("acme/tiny-GGUF/another-Q4_K_M.gguf")
    server = EmbeddedServer(file, threads=1)
    async with server, AsyncClient(server) as client:
        (model,) = await client.list_downloaded_models()
        assert (model.model_key, model.path) == ("tiny", "tiny-Q4_K_M.gguf")
    assert await answer(server, "tiny") == "Here I am"
    assert server.models == (file,)
    assert server.models_folder is None


async def test_a_relative_file_and_a_file_of_the_home_folder_are_found(
    models: ModelsFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.add_llm("near-Q8_0.gguf", script="Here I am")
    monkeypatch.chdir(models.folder)
    monkeypatch.setenv("HOME", str(models.folder))
    monkeypatch.setenv("USERPROFILE", str(models.folder))
    for place in ("near-Q8_0.gguf", "~/near-Q8_0.gguf"):
        assert await answer(EmbeddedServer(place, threads=1), "near") == "Here I am"


async def test_a_file_brings_its_other_parts_and_its_projector(models: ModelsFolder) -> None:
    for number in (1, 2):
        models.add_llm(f"a/b/big-Q8_0-0000{number}-of-00002.gguf")
    models.add_llm("a/b/big-Q4_0-00001-of-00002.gguf")
    models.add_projector("a/b/mmproj-big-F16.gguf")
    second = models.folder / "a/b/big-Q8_0-00002-of-00002.gguf"
    async with AsyncClient(EmbeddedServer(second, threads=1)) as client:
        (model,) = await client.llm.list_downloaded()
        assert model.path == "big-Q8_0-00001-of-00002.gguf"
        assert model.info.vision


async def test_files_of_several_folders_keep_their_projectors_apart(
    models: ModelsFolder, other: ModelsFolder
) -> None:
    blind = models.add_llm("one/model.gguf")
    seeing = other.add_llm("two/model.gguf")
    other.add_projector("two/mmproj-F16.gguf")
    async with AsyncClient(EmbeddedServer([blind, seeing], threads=1)) as client:
        found = {
            model.model_key: (model.path, model.info.vision) for model in await client.llm.list_downloaded()
        }
    assert found == {"one": ("one/model.gguf", False), "two": ("two/model.gguf", True)}


async def test_files_of_folders_of_one_name_have_longer_paths(
    models: ModelsFolder, other: ModelsFolder
) -> None:
    files = [each.add_llm("sub/model.gguf") for each in (models, other)]
    assert sorted((await paths(*files)).values()) == ["other/sub/model.gguf", "sub/model.gguf"]


async def test_a_file_that_is_deleted_later_is_skipped_with_the_reason(models: ModelsFolder) -> None:
    file = models.add_llm("gone-Q8_0.gguf")
    async with AsyncClient(EmbeddedServer(file, threads=1)) as client:
        file.unlink()
        assert await client.list_downloaded_models() == []
        with pytest.raises(LMStudioModelNotFoundError, match="gone-Q8_0.gguf exists|does not exist any more"):
            await client.llm.model("gone")


@pytest.mark.skipif(os.name != "posix", reason="a dot hides files on POSIX only")
async def test_a_hidden_file_is_found_if_it_is_given(models: ModelsFolder) -> None:
    file = models.add_llm("seen-Q8_0.gguf").rename(models.folder / ".hidden-Q8_0.gguf")
    assert list((await paths(file)).values()) == [".hidden-Q8_0.gguf"]


# -- several places


async def test_models_of_all_places_are_listed_each_once(models: ModelsFolder, other: ModelsFolder) -> None:
    models.add_llm(TINY)
    inside = other.add_llm("acme/second-GGUF/second-Q8_0.gguf")
    single = other.add_llm("third-Q8_0.gguf")
    (other.folder / "elsewhere").mkdir()
    third = shutil.move(single, other.folder / "elsewhere" / single.name)
    assert await paths(models.folder, other.folder, inside, third) == {
        "tiny": TINY,
        "second": "acme/second-GGUF/second-Q8_0.gguf",
        "third": "elsewhere/third-Q8_0.gguf",
    }


async def test_the_first_of_two_folders_with_the_same_path_counts(
    models: ModelsFolder, other: ModelsFolder
) -> None:
    models.add_llm(TINY, script="the first")
    other.add_llm(TINY, script="the second")
    assert await answer(EmbeddedServer([models.folder, other.folder], threads=1), "tiny") == "the first"
    assert await answer(EmbeddedServer([other.folder, models.folder], threads=1), "tiny") == "the second"


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right that not every user has")
async def test_a_link_to_a_model_of_an_earlier_place_does_not_count_again(
    models: ModelsFolder, other: ModelsFolder
) -> None:
    (other.folder / "linked-Q8_0.gguf").symlink_to(models.add_llm(TINY))
    assert await paths(models.folder, other.folder) == {"tiny": TINY}
    assert await paths(other.folder, models.folder) == {"linked": "linked-Q8_0.gguf"}


# -- downloads


@pytest.mark.parametrize("file_first", [True, False])
async def test_the_first_folder_gets_downloads(
    models: ModelsFolder, other: ModelsFolder, tmp_path: Path, hub: LocalHub, file_first: bool
) -> None:
    file = ModelsFolder(tmp_path / "single").add_llm("single-Q8_0.gguf")
    hub.add("acme/tiny-GGUF", {"tiny-Q4_K_M.gguf": file.read_bytes()})
    folders = [other.folder, models.folder]
    server = EmbeddedServer([file, *folders] if file_first else [*folders, file], threads=1)
    assert server.models_folder == other.folder
    async with AsyncClient(server) as client:
        (found,) = await client.repository.search_models("tiny")
        (option,) = await found.get_download_options()
        assert await option.download() == "tiny"
    assert (other.folder / TINY).is_file()
    assert not list(models.folder.iterdir())


async def test_a_server_with_files_only_refuses_downloads(models: ModelsFolder, hub: LocalHub) -> None:
    file = models.add_llm("single-Q8_0.gguf")
    hub.add("acme/tiny-GGUF", {"tiny-Q4_K_M.gguf": file.read_bytes()})
    async with AsyncClient(EmbeddedServer(file, threads=1)) as client:
        (found,) = await client.repository.search_models("tiny")
        (option,) = await found.get_download_options()
        with (
            anyio.fail_after(20),
            pytest.raises(LMStudioServerError, match="no models folder to download to"),
        ):
            await option.download()
    assert hub.downloads == []
    assert [each.name for each in models.folder.iterdir()] == [file.name]


# -- places that make no sense


@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("nowhere", r"There is no folder .*nowhere\. Create it and put models there"),
        ("nowhere.gguf", r"There is no file .*nowhere\.gguf\."),
        ("notes.txt", "notes.txt is no GGUF file"),
        ("notes.gguf", "notes.gguf is no GGUF file"),
        ("empty.gguf", "empty.gguf is no GGUF file"),
        ("blob", "blob is a GGUF file, but its name does not end in .gguf"),
    ],
)
@pytest.mark.parametrize("in_list", [True, False])
def test_a_place_without_models_is_refused_at_once(
    models: ModelsFolder, place: str, reason: str, in_list: bool
) -> None:
    models.add_llm("a.gguf").rename(models.folder / "blob")
    for name in ("notes.txt", "notes.gguf"):
        (models.folder / name).write_text("These are my notes.")
    (models.folder / "empty.gguf").touch()
    given = models.folder / place
    with pytest.raises(LMStudioValueError, match=reason):
        EmbeddedServer([models.folder, given] if in_list else given)


@pytest.mark.parametrize("given", [[], (), "", [""], 5, [None], b"bytes", {"a": "b"}, "a\0b", ["a\0b"]])
def test_a_value_that_is_no_path_is_refused(given: Any) -> None:
    with pytest.raises(LMStudioValueError, match="models "):
        EmbeddedServer(given)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_named_pipe_is_refused_without_waiting_for_its_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(LMStudioValueError, match="no GGUF file"):
        EmbeddedServer(tmp_path / "pipe.gguf")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
@pytest.mark.parametrize("name", ["folder", "file.gguf"])
def test_a_place_that_may_not_be_read_is_an_error(models: ModelsFolder, name: str) -> None:
    models.add_llm("file.gguf")
    (models.folder / "folder").mkdir()
    (models.folder / name).chmod(0)
    with pytest.raises(LMStudioOSError, match="cannot be read"):
        EmbeddedServer(models.folder / name)
    (models.folder / name).chmod(0o700)


IN_A_LOOP = """
import asyncio, os, sys
from blockbuster import blockbuster_ctx
from lmstudio_async import EmbeddedServer

async def main():
    with blockbuster_ctx():
        EmbeddedServer(sys.argv[1:])
        async with EmbeddedServer() as server:
            return repr(server)

print(asyncio.run(main()), flush=True)
# Python 3.11 crashes at its end once blockbuster has patched built-in classes, although it has restored them.
os._exit(0)
"""


def test_a_server_is_made_without_blocking_calls(
    models: ModelsFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    places = [models.folder, models.add_llm(TINY)]
    done = subprocess.run(
        [sys.executable, "-c", IN_A_LOOP, *places], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stderr, done.stdout) == ("", "EmbeddedServer(is_running=True)\n")


async def test_a_missing_model_of_a_single_file_names_the_file(models: ModelsFolder) -> None:
    file = models.add_embedding("embed-F32.gguf")
    async with AsyncClient(EmbeddedServer(file, threads=1)) as client:
        with pytest.raises(
            LMStudioError, match="There is no model in the files that the server was given"
        ) as e:
            await client.llm.model("tiny")
        assert str(file) in str(e.value)


# -- the default folder


async def test_the_default_folder_is_created(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    server = EmbeddedServer(threads=1)
    folder = server.models_folder
    assert folder is not None and not folder.exists()
    async with server:
        assert folder.is_dir()
        # It is the user's from now on: models that are put there are found.
        ModelsFolder(folder).add_llm(TINY, script="Here I am")
        async with AsyncClient(server) as client:
            assert [model.model_key for model in await client.list_downloaded_models()] == ["tiny"]


async def test_a_default_folder_that_cannot_be_created_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("HOME", "USERPROFILE", "LOCALAPPDATA", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "file"))
    (tmp_path / "file").touch()
    async with AsyncClient(EmbeddedServer(threads=1)) as client:
        assert await client.list_downloaded_models() == []
    assert "cannot be created: Not a directory" in caplog.text

"""The location of the models folder, and the files in it that count as models."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from lmstudio_async import AsyncClient
from lmstudio_async.embedded import EmbeddedServer
from lmstudio_async.embedded._catalog._catalog import Catalog
from lmstudio_async.embedded._catalog._models_folder import default_models_folder
from lmstudio_async.errors import LMStudioModelNotFoundError
from lmstudio_async.testing import ModelsFolder

TINY = "acme/tiny-GGUF/tiny-Q4_K_M.gguf"


def keys(catalog: Catalog) -> list[str]:
    return [entry.model_key for entry in catalog.scan()]


needs_links = pytest.mark.skipif(sys.platform == "win32", reason="links need a right that not every user has")


@pytest.fixture
def store(tmp_path: Path) -> ModelsFolder:
    """Models of another program, outside of the models folder."""
    return ModelsFolder(tmp_path / "store")


@needs_links
def test_link_to_a_file_of_any_name_is_followed(
    models: ModelsFolder, store: ModelsFolder, catalog: Catalog
) -> None:
    inside = models.add_llm(TINY)
    blob = store.add_llm("blobs/sha256-0a1b.gguf").rename(store.folder / "sha256-0a1b")
    (models.folder / "acme" / "shared-Q8_0.gguf").symlink_to(blob)
    (models.folder / "acme" / "second-Q8_0.gguf").symlink_to(inside)
    assert keys(catalog) == ["second", "shared", "tiny"]
    assert catalog.broken == {}


@needs_links
def test_link_to_a_folder_is_followed(models: ModelsFolder, store: ModelsFolder, catalog: Catalog) -> None:
    store.add_llm("other/big-GGUF/big-Q8_0.gguf")
    (models.folder / "other").symlink_to(store.folder / "other")
    (entry,) = catalog.scan()
    assert entry.path == "other/big-GGUF/big-Q8_0.gguf"
    assert (entry.publisher, entry.repository) == ("other", "other/big-GGUF")


@needs_links
def test_model_in_parts_is_found_through_links_to_its_parts(
    models: ModelsFolder, store: ModelsFolder, catalog: Catalog
) -> None:
    (models.folder / "acme").mkdir(parents=True)
    for number in (1, 2):
        part = store.add_llm(f"part{number}.gguf")
        (models.folder / "acme" / f"big-Q8_0-0000{number}-of-00002.gguf").symlink_to(part)
    (entry,) = catalog.scan()
    # The engine finds the second part by the name of the first one.
    assert [part.parent for part in entry.parts] == [models.folder / "acme"] * 2


@needs_links
def test_folder_linked_into_itself_is_listed_once(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm(TINY)
    (models.folder / "acme" / "round").symlink_to(models.folder)
    (models.folder / "again").symlink_to(models.folder / "acme")
    assert [entry.path for entry in catalog.scan()] == [TINY, TINY.replace("acme", "again")]
    assert catalog.broken == {}


@needs_links
def test_folders_linked_to_each_other_are_each_listed_once_below_a_link(
    models: ModelsFolder, store: ModelsFolder, catalog: Catalog
) -> None:
    names = [f"folder{number}" for number in range(8)]
    for name in names:
        store.add_llm(f"{name}/{name}.gguf")
    for name in names:
        for other in names:
            (store.folder / name / f"to-{other}").symlink_to(store.folder / other)
    (models.folder / "linked").symlink_to(store.folder)
    assert len(keys(catalog)) == 8


@needs_links
def test_broken_link_is_reported(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm(TINY)
    folder = models.folder / "acme"
    (folder / "gone-Q8_0.gguf").symlink_to(folder / "nowhere")
    (models.folder / "unplugged").symlink_to("/media/nobody/disk")
    (folder / "loop.gguf").symlink_to("loop.gguf")
    (folder / "ring").symlink_to("ring")
    assert keys(catalog) == ["tiny"]
    assert (
        catalog.broken["acme/gone-Q8_0.gguf"] == f"it is a link to {folder / 'nowhere'}, which does not exist"
    )
    assert catalog.broken["unplugged"] == "it is a link to /media/nobody/disk, which does not exist"
    assert sorted(catalog.broken) == ["acme/gone-Q8_0.gguf", "acme/loop.gguf", "acme/ring", "unplugged"]
    assert Catalog(folder / "ring").scan() == []


@needs_links
async def test_model_of_a_linked_folder_loads(models: ModelsFolder, store: ModelsFolder) -> None:
    store.add_llm("other/big-GGUF/big-Q8_0.gguf", script="Far away")
    (models.folder / "other").symlink_to(store.folder / "other")
    async with EmbeddedServer(models.folder, threads=1) as server, AsyncClient(server) as client:
        model = await client.llm.model("big")
        assert (await model.respond("Where?")).content == "Far away"


def test_model_in_many_folders_is_found(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm("a/b/c/d/e/f/g/h/i/j/deep-Q8_0.gguf")
    assert keys(catalog) == ["deep"]


def test_folder_with_too_long_a_path_is_reported(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm(TINY)
    folder = "/".join(["x" * 200] * 6)
    models.add_llm(f"{folder}/deep.gguf")
    assert keys(catalog) == ["tiny"]
    assert catalog.broken == {f"{folder}/": "its path is too long or has control characters"}


def test_folder_that_cannot_be_read_is_reported(
    models: ModelsFolder, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.add_llm(TINY)
    scandir = os.scandir

    for name, path in (("tiny-GGUF", "acme/tiny-GGUF/"), (models.folder.name, "./")):

        def refuse(place: Path, shut: str = name) -> Iterator[os.DirEntry[str]]:
            if place.name == shut:
                raise OSError(errno.EMFILE, "Too many open files")
            return scandir(place)

        monkeypatch.setattr(os, "scandir", refuse)
        assert keys(catalog) == []
        assert catalog.broken == {path: "it cannot be read: Too many open files"}
        with pytest.raises(LMStudioModelNotFoundError) as caught:
            catalog.resolve("tiny", "llm")
        assert "Too many open files" in caught.value.server_error["suggestion"]


def test_file_that_could_not_be_read_once_is_read_again(
    models: ModelsFolder, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.add_llm(TINY)
    with monkeypatch.context() as shut:
        shut.setattr(Path, "open", Mock(side_effect=OSError(errno.EMFILE, "Too many open files")))
        assert keys(catalog) == []
    assert catalog.broken == {TINY: "it cannot be read: Too many open files"}
    assert keys(catalog) == ["tiny"]


def test_skipped_files_are_logged_once(
    models: ModelsFolder, catalog: Catalog, caplog: pytest.LogCaptureFixture
) -> None:
    models.add_broken("acme/a/a-Q8_0.gguf", "bad magic")
    with caplog.at_level("INFO", "lmstudio_async.embedded"):
        catalog.scan()
        catalog.scan()
    assert [record.getMessage() for record in caplog.records] == [
        "skipped the model file acme/a/a-Q8_0.gguf: it does not begin with the letters GGUF"
    ]


def test_error_about_an_unknown_model_names_the_skipped_files(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm(TINY)
    for number in range(5):
        models.add_broken(f"acme/file-{number}.gguf", "bad magic")
    with pytest.raises(LMStudioModelNotFoundError) as caught:
        catalog.resolve("other", "llm")
    suggestion = caught.value.server_error["suggestion"]
    assert suggestion.startswith("Skipped among the models: 5 files and folders, such as acme/file-0")
    assert len(suggestion) < 400


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_named_pipe_does_not_block_the_scan(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm(TINY)
    os.mkfifo(models.folder / "acme" / "pipe.gguf")
    assert keys(catalog) == ["tiny"]
    assert catalog.broken == {"acme/pipe.gguf": "it is not a file"}


def test_a_folder_with_the_name_of_a_model_file_is_scanned(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm("acme/tiny.gguf/tiny-Q8_0.gguf")
    assert keys(catalog) == ["tiny"]


def test_hidden_files_are_ignored(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_broken("acme/tiny/.tiny-Q8_0.gguf")
    models.add_broken(".cache/tiny/tiny-Q8_0.gguf")
    assert catalog.scan() == []
    assert catalog.broken == {}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home directory."""
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_default_models_folder_is_that_of_lm_studio_if_it_exists(home: Path) -> None:
    (home / ".lmstudio" / "models").mkdir(parents=True)
    assert default_models_folder() == home / ".lmstudio" / "models"


def test_default_models_folder_follows_the_home_pointer_of_lm_studio(home: Path) -> None:
    (home / ".lmstudio" / "models").mkdir(parents=True)
    (home / "elsewhere" / "models").mkdir(parents=True)
    (home / ".lmstudio-home-pointer").write_text(f"{home / 'elsewhere'}\n")
    assert default_models_folder() == home / "elsewhere" / "models"


@pytest.mark.parametrize("pointer", [b"", b"relative", b"/does/not/exist", b"\xff\xfe", b"a\x00b"])
def test_an_invalid_home_pointer_is_ignored(home: Path, pointer: bytes) -> None:
    (home / ".lmstudio" / "models").mkdir(parents=True)
    (home / ".lmstudio-home-pointer").write_bytes(pointer)
    assert default_models_folder() == home / ".lmstudio" / "models"


def test_default_models_folder_without_lm_studio_is_lmstudio_async(home: Path) -> None:
    folder = default_models_folder()
    assert folder.parts[-2:] == ("lmstudio-async", "models")
    assert folder.is_relative_to(home)
    assert not folder.exists()


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="other systems have another data folder")
def test_default_models_folder_follows_xdg_data_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    assert default_models_folder() == home / "data" / "lmstudio-async" / "models"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert default_models_folder() == home / ".local" / "share" / "lmstudio-async" / "models"

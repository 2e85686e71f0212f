"""Where the models are, and what in there is a model's file at all."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from lmstudio_async.embedded._catalog import Catalog, default_models_folder
from lmstudio_async.testing import ModelsFolder

TINY = "acme/tiny-GGUF/tiny-Q4_K_M.gguf"


@pytest.fixture
def models(tmp_path: Path) -> ModelsFolder:
    return ModelsFolder(tmp_path / "models")


@pytest.fixture
def catalog(models: ModelsFolder) -> Catalog:
    return Catalog(models.folder)


def keys(catalog: Catalog) -> list[str]:
    return [entry.model_key for entry in catalog.scan()]


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right that not every user has")
def test_links_lead_no_further_than_the_folder(models: ModelsFolder, catalog: Catalog) -> None:
    outside = ModelsFolder(models.folder.parent / "outside").add_llm("x/y/z.gguf")
    inside = models.add_llm(TINY)
    (models.folder / "acme" / "leads-out.gguf").symlink_to(outside)
    (models.folder / "acme" / "leads-nowhere.gguf").symlink_to("nowhere")
    (models.folder / "acme" / "round").symlink_to(models.folder)
    (models.folder / "acme" / "out").symlink_to(outside.parent)
    (models.folder / "acme" / "second-Q8_0.gguf").symlink_to(inside)
    assert keys(catalog) == ["second", "tiny"]
    assert "outside of the models folder" in catalog.broken["acme/leads-out.gguf"]
    assert "acme/leads-nowhere.gguf" in catalog.broken


@pytest.mark.skipif(sys.platform == "win32", reason="links need a right that not every user has")
def test_links_that_lead_round_in_circles_are_left_out(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm(TINY)
    (models.folder / "acme" / "loop.gguf").symlink_to("loop.gguf")
    (models.folder / "acme" / "ring").symlink_to("ring")
    assert keys(catalog) == ["tiny"]
    assert list(catalog.broken) == ["acme/loop.gguf"]
    assert Catalog(models.folder / "acme" / "ring").scan() == []


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")
def test_a_pipe_is_not_waited_for(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm(TINY)
    os.mkfifo(models.folder / "acme" / "pipe.gguf")
    assert keys(catalog) == ["tiny"]
    assert catalog.broken == {"acme/pipe.gguf": "it is no file"}


def test_a_folder_that_is_called_like_a_model_is_a_folder(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm("acme/tiny.gguf/tiny-Q8_0.gguf")
    assert keys(catalog) == ["tiny"]


def test_hidden_files_are_left_alone(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_broken("acme/tiny/.tiny-Q8_0.gguf")
    models.add_broken(".cache/tiny/tiny-Q8_0.gguf")
    assert catalog.scan() == []
    assert catalog.broken == {}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home."""
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_the_models_of_lm_studio_are_used_if_there_are_any(home: Path) -> None:
    (home / ".lmstudio" / "models").mkdir(parents=True)
    assert default_models_folder() == home / ".lmstudio" / "models"


def test_lm_studio_may_live_elsewhere(home: Path) -> None:
    (home / ".lmstudio" / "models").mkdir(parents=True)
    (home / "elsewhere" / "models").mkdir(parents=True)
    (home / ".lmstudio-home-pointer").write_text(f"{home / 'elsewhere'}\n")
    assert default_models_folder() == home / "elsewhere" / "models"


@pytest.mark.parametrize("pointer", [b"", b"relative", b"/does/not/exist", b"\xff\xfe", b"a\x00b"])
def test_a_pointer_to_nowhere_is_not_followed(home: Path, pointer: bytes) -> None:
    (home / ".lmstudio" / "models").mkdir(parents=True)
    (home / ".lmstudio-home-pointer").write_bytes(pointer)
    assert default_models_folder() == home / ".lmstudio" / "models"


def test_without_lm_studio_there_is_a_folder_of_our_own(home: Path) -> None:
    folder = default_models_folder()
    assert folder.parts[-2:] == ("lmstudio-async", "models")
    assert folder.is_relative_to(home)
    assert not folder.exists()


@pytest.mark.skipif(sys.platform in {"win32", "darwin"}, reason="elsewhere data has another place")
def test_the_data_folder_can_be_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    assert default_models_folder() == home / "data" / "lmstudio-async" / "models"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")
    assert default_models_folder() == home / ".local" / "share" / "lmstudio-async" / "models"

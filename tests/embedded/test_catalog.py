"""The catalog of the models folder, and the resolution of keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstudio_async.embedded._catalog._catalog import Catalog, CatalogEntry
from lmstudio_async.errors import LMStudioDomainMismatchError, LMStudioModelNotFoundError
from lmstudio_async.testing import HERMES, ModelsFolder, tool_call

TINY_Q4 = "acme/tiny-GGUF/tiny-Q4_K_M.gguf"
TINY_Q8 = "acme/tiny-GGUF/tiny-Q8_0.gguf"
LLAMA = "lmstudio-community/Llama-3.2-1B-Instruct-GGUF/Llama-3.2-1B-Instruct-Q4_K_M.gguf"
EMBED = "nomic-ai/nomic-embed-text-v1.5-GGUF/nomic-embed-text-v1.5.Q4_K_M.gguf"


def only(catalog: Catalog) -> CatalogEntry:
    (entry,) = catalog.scan()
    return entry


def keys(catalog: Catalog) -> list[str]:
    return [entry.model_key for entry in catalog.scan()]


def test_scan_of_a_missing_folder_finds_no_models(catalog: Catalog) -> None:
    assert catalog.scan() == []
    assert catalog.broken == {}


def test_an_entry_describes_its_model(models: ModelsFolder, catalog: Catalog) -> None:
    file = models.add_llm(TINY_Q4, context_length=4096, blocks=2)
    entry = only(catalog)
    assert entry.type == "llm"
    assert entry.model_key == "tiny"
    assert entry.display_name == "Tiny"
    assert entry.publisher == "acme"
    assert entry.path == TINY_Q4
    assert entry.repository == "acme/tiny-GGUF"
    assert entry.file.samefile(file)
    assert entry.size_bytes == file.stat().st_size
    assert entry.architecture == "llama"
    assert entry.quantization == ("Q4_K_M", 4)
    assert not entry.vision
    assert not entry.trained_for_tool_use
    assert entry.max_context_length == 4096
    assert (entry.block_count, entry.embedding_length) == (2, 64)
    assert (entry.head_count, entry.head_count_kv, entry.key_length, entry.value_length) == (2, 1, 32, 32)
    assert "<|im_start|>" in (entry.chat_template or "")


def test_params_string_is_the_abbreviated_parameter_count(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm(TINY_Q4)
    models.add_llm(LLAMA, metadata={"general.size_label": "1B"})
    assert [entry.params_string for entry in catalog.scan()] == ["52K", "1B"]


def test_a_model_with_tools_in_its_template_is_trained_for_tool_use(
    models: ModelsFolder, catalog: Catalog
) -> None:
    models.add_llm(TINY_Q4, script=tool_call("add", a=1), chat_template=HERMES)
    assert only(catalog).trained_for_tool_use


def test_a_model_without_template_is_listed(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm(TINY_Q4, chat_template=None)
    assert only(catalog).chat_template is None


def test_an_embedding_model_is_recognized_by_its_architecture(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_embedding(EMBED)
    entry = only(catalog)
    assert entry.type == "embedding"
    assert entry.model_key == "text-embedding-nomic-embed-text-v1.5"
    assert entry.display_name == "Nomic Embed Text v1.5"


def test_an_embedding_model_is_recognized_by_its_pooling(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm("qwen/embed/embed-Q8_0.gguf", architecture="qwen3", metadata={"qwen3.pooling_type": 3})
    models.add_llm("qwen/plain/plain-Q8_0.gguf", architecture="qwen3", metadata={"qwen3.pooling_type": 0})
    assert [entry.type for entry in catalog.scan()] == ["embedding", "llm"]


def test_models_are_sorted_by_their_paths(models: ModelsFolder, catalog: Catalog) -> None:
    for path in ("b/x/x.gguf", "A/y/y.gguf", "c/z/z.gguf"):
        models.add_llm(path)
    assert [entry.path for entry in catalog.scan()] == ["A/y/y.gguf", "b/x/x.gguf", "c/z/z.gguf"]


def test_keys_name_the_quantization_where_needed(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm(TINY_Q4)
    models.add_llm(TINY_Q8)
    assert keys(catalog) == ["tiny@q4_k_m", "tiny@q8_0"]
    assert {entry.base_key for entry in catalog.scan()} == {"tiny"}


def test_keys_name_the_publisher_where_needed(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm("acme/tiny-GGUF/tiny-Q8_0.gguf")
    models.add_llm("Other/tiny-GGUF/tiny-Q8_0.gguf")
    models.add_llm("acme/solo-GGUF/solo-Q8_0.gguf")
    assert keys(catalog) == ["solo", "acme/tiny", "other/tiny"]


def test_keys_name_publisher_and_quantization_where_both_are_needed(
    models: ModelsFolder, catalog: Catalog
) -> None:
    for publisher in ("acme", "other"):
        for quantization in ("Q4_0", "Q8_0"):
            models.add_llm(f"{publisher}/tiny/tiny-{quantization}.gguf")
    assert keys(catalog) == ["acme/tiny@q4_0", "acme/tiny@q8_0", "other/tiny@q4_0", "other/tiny@q8_0"]


def test_models_of_one_name_publisher_and_quantization_have_their_paths_as_keys(
    models: ModelsFolder, catalog: Catalog
) -> None:
    models.add_llm("acme/one/tiny-Q8_0.gguf")
    models.add_llm("acme/two/tiny-Q8_0.gguf")
    assert keys(catalog) == ["acme/one/tiny-Q8_0.gguf", "acme/two/tiny-Q8_0.gguf"]


def test_every_key_in_a_catalog_finds_its_model_and_no_other(models: ModelsFolder, catalog: Catalog) -> None:
    for path in (
        TINY_Q4,
        TINY_Q8,
        "other/tiny-GGUF/tiny-Q8_0.gguf",
        "acme/tiny/tiny-Q8_0.gguf",
        LLAMA,
        "x/y/z.gguf",
    ):
        models.add_llm(path)
    models.add_embedding(EMBED)
    for entry in catalog.scan():
        assert catalog.resolve(entry.model_key, entry.type) == (entry, None)
        assert catalog.resolve(entry.path, entry.type) == (entry, None)


@pytest.mark.parametrize(
    "key",
    [
        "llama-3.2-1b-instruct",
        "Llama-3.2-1B-Instruct",
        "llama-3.2-1b-instruct@q4_k_m",
        "lmstudio-community/llama-3.2-1b-instruct",
        "lmstudio-community/Llama-3.2-1B-Instruct-GGUF",
        "lmstudio-community/Llama-3.2-1B-Instruct-GGUF/",
        "lmstudio-community/Llama-3.2-1B-Instruct-GGUF@Q4_K_M",
        LLAMA,
        LLAMA.lower(),
        LLAMA.replace("/", "\\"),
        "lmstudio-community/Llama-3.2-1B-Instruct-GGUF/Llama-3.2-1B",
        "lmstudio-community/Llama",
    ],
)
def test_a_model_is_found_by_many_names(models: ModelsFolder, catalog: Catalog, key: str) -> None:
    models.add_llm(LLAMA)
    models.add_llm(TINY_Q4)
    entry, ambiguous = catalog.resolve(key, "llm")
    assert entry.path == LLAMA
    assert ambiguous is None


@pytest.mark.parametrize("key", ["nomic-embed-text-v1.5", "nomic-ai/nomic-embed-text-v1.5", "nomic-ai"])
def test_an_embedding_model_is_found_without_its_prefix(
    models: ModelsFolder, catalog: Catalog, key: str
) -> None:
    models.add_embedding(EMBED)
    assert catalog.resolve(key, "embedding")[0].path == EMBED


@pytest.mark.parametrize("key", ["tiny", "acme/tiny", "acme/tiny-gguf", "ACME/TINY-GGUF"])
def test_an_ambiguous_key_resolves_to_the_first_model_and_lists_all(
    models: ModelsFolder, catalog: Catalog, key: str
) -> None:
    models.add_llm("acme/tiny-GGUF/tiny-F16.gguf")
    models.add_llm(TINY_Q8)
    models.add_llm(TINY_Q4)
    entry, ambiguous = catalog.resolve(key, "llm")
    assert entry.path == TINY_Q4
    assert ambiguous == ["tiny@q4_k_m", "tiny@q8_0", "tiny@f16"]


def test_a_key_with_quantization_is_not_ambiguous(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm(TINY_Q4)
    models.add_llm(TINY_Q8)
    for key in ("tiny@q8_0", "TINY@Q8_0", "acme/tiny@q8_0", "acme/tiny-GGUF@q8_0"):
        entry, ambiguous = catalog.resolve(key, "llm")
        assert (entry.path, ambiguous) == (TINY_Q8, None)


@pytest.mark.parametrize(
    "key",
    [
        "absent",
        "tiny:2",
        "tiny@5bit",
        "tiny@bit",
        ":Q8_0",
        "tiny@q2_k",
        "acme",
        "acme/tiny-GGUF/tiny-Q",
        "",
        " ",
        "/",
        "@",
        "@q8_0",
        "__proto__",
        "a\x00b",
        "x" * 1025,
        "../models/acme/tiny-GGUF/tiny-Q8_0.gguf",
        "./acme",
        "/etc/passwd",
    ],
)
def test_an_unknown_key_raises_not_found_with_the_candidates(
    models: ModelsFolder, catalog: Catalog, key: str
) -> None:
    models.add_llm(TINY_Q4)
    models.add_llm(TINY_Q8)
    with pytest.raises(LMStudioModelNotFoundError) as caught:
        catalog.resolve(key, "llm")
    assert sorted(caught.value.candidates) == ["tiny@q4_k_m", "tiny@q8_0"]


def test_not_found_error_lists_ten_candidates_with_the_most_similar_first(
    models: ModelsFolder, catalog: Catalog
) -> None:
    for number in range(12):
        models.add_llm(f"acme/anything-{number}-GGUF/anything-{number}-Q8_0.gguf")
    models.add_llm(TINY_Q8)

    with pytest.raises(LMStudioModelNotFoundError) as caught:
        catalog.resolve("tinny", "llm")

    assert caught.value.candidates[0] == "tiny"
    assert len(caught.value.candidates) == 10


@pytest.mark.parametrize("key", ["big", "acme/big-GGUF/big-Q8_0.gguf"])
def test_not_found_error_explains_why_the_file_of_the_model_is_skipped(
    models: ModelsFolder, catalog: Catalog, key: str
) -> None:
    models.add_llm(TINY_Q8)
    models.add_broken("acme/big-GGUF/big-Q8_0.gguf", "truncated")

    with pytest.raises(LMStudioModelNotFoundError) as caught:
        catalog.resolve(key, "llm")

    suggestion = caught.value.server_error["suggestion"]
    assert suggestion.startswith("The file acme/big-GGUF/big-Q8_0.gguf exists, but is skipped: ")
    assert "unfinished download" in suggestion


def test_not_found_error_names_the_models_folder_if_it_is_empty(
    models: ModelsFolder, catalog: Catalog
) -> None:
    with pytest.raises(LMStudioModelNotFoundError) as caught:
        catalog.resolve("tiny", "llm")

    suggestion = caught.value.server_error["suggestion"]
    assert str(models.folder) in suggestion
    assert "publisher/repository/file.gguf" in suggestion


def test_a_file_outside_of_the_folder_has_no_key(models: ModelsFolder, catalog: Catalog) -> None:
    outside = ModelsFolder(models.folder.parent).add_llm("outside/x/x.gguf")
    models.add_llm(TINY_Q4)
    for key in (str(outside), "../outside/x/x.gguf", "acme/../../outside/x/x.gguf"):
        with pytest.raises(LMStudioModelNotFoundError):
            catalog.resolve(key, "llm")


def test_a_model_of_the_other_domain_raises_domain_mismatch(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_embedding(EMBED)
    models.add_llm(TINY_Q4)
    with pytest.raises(LMStudioDomainMismatchError) as caught:
        catalog.resolve("nomic-embed-text-v1.5", "llm")
    assert caught.value.display_data["actualDomain"] == "embedding"
    assert caught.value.display_data["expectedDomain"] == "llm"
    with pytest.raises(LMStudioDomainMismatchError):
        catalog.resolve("acme/tiny", "embedding")


def test_the_domain_decides_between_models_of_one_name(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm("acme/twin-GGUF/twin-Q8_0.gguf")
    models.add_embedding("acme/twin-embed-GGUF/twin-Q8_0.gguf")
    assert catalog.resolve("twin", "llm")[0].type == "llm"
    assert catalog.resolve("twin", "embedding")[0].type == "embedding"


def test_a_new_download_is_found_at_once(models: ModelsFolder, catalog: Catalog) -> None:
    with pytest.raises(LMStudioModelNotFoundError):
        catalog.resolve("tiny", "llm")
    file = models.add_llm(TINY_Q4)
    assert catalog.resolve("tiny", "llm")[0].path == TINY_Q4
    file.unlink()
    with pytest.raises(LMStudioModelNotFoundError):
        catalog.resolve("tiny", "llm")


def test_a_changed_file_is_read_again_and_no_other(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm(TINY_Q4, context_length=1024)
    models.add_llm(LLAMA)
    tiny, llama = catalog.scan()
    models.add_llm(TINY_Q4, context_length=2048, script="Something longer than before")
    tiny_again, llama_again = catalog.scan()
    assert (tiny.max_context_length, tiny_again.max_context_length) == (1024, 2048)
    # A file that is read again has an equal template, but as another object.
    assert llama_again.chat_template is llama.chat_template
    assert tiny_again.chat_template is not tiny.chat_template


def test_a_broken_file_hides_no_other(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_broken("acme/a/a-Q8_0.gguf", "truncated")
    models.add_broken("acme/b/b-Q8_0.gguf", "bad magic")
    models.add_broken("acme/c/c-Q8_0.gguf", "no tensors")
    models.add_llm(TINY_Q4)
    assert keys(catalog) == ["tiny"]
    assert list(catalog.broken) == ["acme/a/a-Q8_0.gguf", "acme/b/b-Q8_0.gguf", "acme/c/c-Q8_0.gguf"]
    assert "unfinished download" in catalog.broken["acme/a/a-Q8_0.gguf"]


def test_a_repaired_file_is_no_longer_broken(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_broken(TINY_Q4)
    assert keys(catalog) == []
    models.add_llm(TINY_Q4)
    assert keys(catalog) == ["tiny"]
    assert catalog.broken == {}


def test_files_that_are_no_language_models_are_not_listed(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm("acme/lora/lora.gguf", metadata={"general.type": "adapter"})
    models.add_llm("acme/image/image.gguf", metadata={"general.architecture": "flux"})
    models.add_llm("acme/odd/odd.gguf", metadata={"general.architecture": "a b"})
    models.add_llm("acme/none/none.gguf", metadata={"llama.context_length": 0})
    models.add_llm("acme/proto/__proto__.gguf")
    (models.folder / "acme" / "readme.md").write_text("no model")
    assert keys(catalog) == []
    assert len(catalog.broken) == 5


def test_a_model_in_parts_is_one_model(models: ModelsFolder, catalog: Catalog) -> None:
    files = [models.add_llm(f"acme/big-GGUF/big-Q4_K_M-0000{n}-of-00003.gguf") for n in (1, 2, 3)]
    entry = only(catalog)
    assert entry.model_key == "big"
    assert entry.path == "acme/big-GGUF/big-Q4_K_M-00001-of-00003.gguf"
    assert entry.quantization == ("Q4_K_M", 4)
    assert entry.size_bytes == sum(file.stat().st_size for file in files)
    assert [part.name for part in entry.parts] == [file.name for file in files]


def test_a_model_that_lacks_a_part_is_broken(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm("acme/big-GGUF/big-00001-of-00003.gguf")
    models.add_llm("acme/big-GGUF/big-00002-of-00003.gguf")
    models.add_llm("acme/huge-GGUF/huge-00002-of-00002.gguf")
    models.add_llm("acme/zero-GGUF/zero-00001-of-00000.gguf")
    assert keys(catalog) == []
    assert "only 2 of its 3 parts" in catalog.broken["acme/big-GGUF/big-00001-of-00003.gguf"]
    assert "first part" in catalog.broken["acme/huge-GGUF/huge-00002-of-00002.gguf"]
    assert "acme/zero-GGUF/zero-00001-of-00000.gguf" in catalog.broken


def test_a_projector_gives_vision_to_the_models_of_its_repository(
    models: ModelsFolder, catalog: Catalog
) -> None:
    models.add_llm("acme/eye-GGUF/eye-Q4_K_M.gguf")
    models.add_llm(TINY_Q4)
    projector = models.add_projector("acme/eye-GGUF/mmproj-eye-F16.gguf")
    eye, tiny = catalog.scan()
    assert eye.vision
    assert eye.projector is not None
    assert eye.projector.samefile(projector)
    assert eye.size_bytes == eye.file.stat().st_size + projector.stat().st_size
    assert not tiny.vision


def test_a_projector_without_vision_encoder_gives_no_vision(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm("acme/ear-GGUF/ear-Q4_K_M.gguf")
    models.add_projector("acme/ear-GGUF/mmproj-ear-F16.gguf", metadata={"clip.has_vision_encoder": False})
    assert not only(catalog).vision


def test_a_model_prefers_the_projector_of_its_own_name(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm("acme/eyes/left-Q8_0.gguf")
    models.add_llm("acme/eyes/other-Q8_0.gguf")
    for name in ("mmproj-BF16", "mmproj-F16", "mmproj-left-F32"):
        models.add_projector(f"acme/eyes/{name}.gguf")
    left, other = catalog.scan()
    assert left.projector is not None
    assert left.projector.name == "mmproj-left-F32.gguf"
    assert other.projector is not None
    assert other.projector.name == "mmproj-F16.gguf"


def test_a_file_outside_of_any_repository_is_a_model(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm("tiny-Q8_0.gguf")
    entry = only(catalog)
    assert (entry.model_key, entry.publisher, entry.path) == ("tiny", "local", "tiny-Q8_0.gguf")
    assert catalog.resolve("tiny", "llm") == (entry, None)


@pytest.fixture(scope="module")
def full_catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    models = ModelsFolder(tmp_path_factory.mktemp("models"))
    models.add_llm(TINY_Q4)
    models.add_llm(TINY_Q8)
    models.add_embedding(EMBED)
    return Catalog(models.folder)


@given(key=st.text() | st.text("tiny@q48_0kmace/.GUF-\\", max_size=30))
def test_any_key_resolves_to_a_model_or_raises_not_found(full_catalog: Catalog, key: str) -> None:
    try:
        entry, ambiguous = full_catalog.resolve(key, "llm")
    except (LMStudioModelNotFoundError, LMStudioDomainMismatchError):
        return
    assert entry.type == "llm"
    assert ambiguous is None or ambiguous[0] == entry.model_key

"""Files and names from strangers: the catalog lists the sound ones, and no name leads out of the models folder."""

from __future__ import annotations

import ntpath
import sys
import unicodedata
from contextlib import suppress
from pathlib import Path, PurePosixPath, PureWindowsPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmstudio_async._wire._struct import write
from lmstudio_async.embedded._catalog._catalog import Catalog
from lmstudio_async.embedded._hub._hub import HubFile, Listing
from lmstudio_async.embedded._hub._hub_models import models_of
from lmstudio_async.embedded._instances._instance import model_info
from lmstudio_async.embedded._instances._load_config import plan_load
from lmstudio_async.embedded._instances._memory_estimate import estimate
from lmstudio_async.errors import LMStudioError, LMStudioServerError
from lmstudio_async.testing import ModelsFolder
from lmstudio_async.testing._gguf_writer import Metadata, gguf_bytes
from tests.embedded.registry import load, names, running

SOUND = "acme/tiny-GGUF/tiny-Q4_K_M.gguf"
STRANGER = "acme/stranger-GGUF/stranger-Q8_0.gguf"

#: Metadata with every key that a model needs.
METADATA: Metadata = {
    "general.architecture": "llama",
    "general.name": "Stranger",
    "llama.context_length": 512,
    "llama.block_count": 2,
    "llama.embedding_length": 64,
    "llama.attention.head_count": 2,
    "tokenizer.ggml.tokens": ["a", "b", "c"],
    "tokenizer.chat_template": "{{ tools }}",
}
SHAPES = {"token_embd.weight": (64, 3), "output.weight": (64, 3)}
HEADER, SIZE = gguf_bytes(METADATA, SHAPES)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> ModelsFolder:
    """A folder with one sound model, to which a test adds the file of a stranger."""
    folder = ModelsFolder(tmp_path_factory.mktemp("models"))
    folder.add_llm(SOUND)
    return folder


def check(models: ModelsFolder, data: bytes) -> None:
    """Check that the catalog lists the sound model, and lists the other one or explains why it is broken."""
    file = models.folder / STRANGER
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    catalog = Catalog(models.folder)
    entries = {entry.path: entry for entry in catalog.scan()}
    assert SOUND in entries
    assert (STRANGER in entries) is not (STRANGER in catalog.broken)
    if STRANGER not in entries:
        assert catalog.broken[STRANGER]
        return
    # The info and the memory estimate can be made from any metadata.
    entry = entries[STRANGER]
    assert write(model_info(entry))["path"] == STRANGER
    with suppress(LMStudioError):
        estimate(entry, plan_load(entry, {}, draft=None, threads=1).spec)


values = (
    st.text(max_size=12)
    | st.booleans()
    | st.integers(0, 2**32 - 1)
    | st.floats(width=32)
    | st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=3)
    | st.lists(st.floats(width=32), min_size=1, max_size=3)
    | st.lists(st.text(max_size=4), min_size=1, max_size=3)
)
metadata = st.dictionaries(
    st.sampled_from(
        [
            *METADATA,
            "general.type",
            "general.alignment",
            "general.file_type",
            "general.size_label",
            "llama.attention.head_count_kv",
            "llama.attention.key_length",
            "llama.attention.value_length",
            "llama.attention.causal",
            "llama.pooling_type",
            "llama.expert_count",
        ]
    )
    | st.text(max_size=8),
    values,
    max_size=6,
)
shapes = st.dictionaries(
    st.text(max_size=6), st.lists(st.integers(0, 2**64 - 1), max_size=4).map(tuple), max_size=3
)


@given(changed=metadata, removed=st.sets(st.sampled_from(list(METADATA)), max_size=2))
def test_any_metadata_is_listed_or_explained(
    models: ModelsFolder, changed: dict[str, object], removed: set[str]
) -> None:
    kept = {key: value for key, value in METADATA.items() if key not in removed}
    header, size = gguf_bytes({**kept, **changed}, SHAPES)  # type: ignore[dict-item]
    check(models, header.ljust(size, b"\0"))


@given(tensors=shapes)
def test_any_tensor_shapes_are_listed_or_explained(
    models: ModelsFolder, tensors: dict[str, tuple[int, ...]]
) -> None:
    parts = b"".join(
        len(name.encode()).to_bytes(8, "little")
        + name.encode()
        + len(shape).to_bytes(4, "little")
        + b"".join(length.to_bytes(8, "little") for length in shape)
        + bytes(12)
        for name, shape in tensors.items()
    )
    header, _ = gguf_bytes(METADATA, {})
    count = len(tensors).to_bytes(8, "little")
    check(models, header[:8] + count + header[16:].rstrip(b"\0") + parts + bytes(2000))


@given(
    changes=st.lists(
        st.tuples(st.integers(0, len(HEADER) - 8), st.binary(min_size=1, max_size=8)), min_size=1, max_size=5
    ),
    length=st.integers(0, SIZE) | st.just(SIZE),
)
def test_a_damaged_model_hides_no_other(
    models: ModelsFolder, changes: list[tuple[int, bytes]], length: int
) -> None:
    damaged = bytearray(HEADER.ljust(SIZE, b"\0"))
    for place, data in changes:
        damaged[place : place + len(data)] = data
    check(models, bytes(damaged[:length]))


@given(data=st.binary(max_size=200))
def test_a_file_of_any_bytes_hides_no_other(models: ModelsFolder, data: bytes) -> None:
    check(models, data)


@pytest.mark.parametrize(
    "lie",
    [
        {"llama.block_count": 2**31 - 1},
        {"llama.embedding_length": 2**20},
        {"llama.attention.head_count": 2**31 - 1},
        {"llama.vocab_size": 2**31 - 1},
        {"tokenizer.ggml.eos_token_id": 2**31 - 1},
        {"tokenizer.ggml.model": "nonesuch"},
        {"tokenizer.chat_template": "{{" * 10_000},
        {"split.count": 60_000},
    ],
)
async def test_a_model_with_wrong_metadata_breaks_no_other_instance(
    tmp_path: Path, lie: dict[str, int | str]
) -> None:
    models = ModelsFolder(tmp_path)
    models.add_llm(SOUND)
    models.add_llm(STRANGER, metadata=lie)
    async with running(models) as instances:
        good = await load(instances)
        # The engine accepts some of the wrong values.
        with suppress(LMStudioServerError):
            await load(instances, "stranger", "mine")
            await instances.unload("mine")
        assert names(instances) == ["tiny"]
        assert await good.engine.tokenize("a", add_special=False) == [97]
        await load(instances, "tiny", "mine")


# -- names


ODD_NAMES = [
    "../outside/secret",
    "..",
    ".",
    "/",
    "//",
    "/etc/passwd",
    "~/models",
    "acme/../../outside/secret",
    "..\\outside\\secret",
    "acme/tiny-GGUF/../../../outside/secret.gguf",
    "C:\\outside\\secret.gguf",
    "C:secret",
    "\\\\server\\share\\secret.gguf",
    "\\\\?\\C:\\secret",
    "file:///outside/secret.gguf",
    "CON",
    "nul.gguf",
    "secret\0",
    "\0",
    "secret\ud800",
    "\u202efugg.terces",
    "\uff53ecret",
    "%2e%2e/outside/secret",
]


@pytest.fixture
def guarded(tmp_path: Path) -> Catalog:
    """The catalog of a folder with a model beside it, to which no link leads."""
    models = ModelsFolder(tmp_path / "models")
    models.add_llm(SOUND)
    ModelsFolder(tmp_path / "outside").add_llm("secret.gguf")
    return Catalog(models.folder)


@pytest.mark.parametrize("key", ODD_NAMES)
def test_no_key_leads_out_of_the_models_folder(guarded: Catalog, key: str) -> None:
    assert guarded.folder is not None
    for name in (key, f"{guarded.folder.parent}/outside/secret.gguf"):
        with pytest.raises(LMStudioError):
            guarded.resolve(name, "llm")


def test_a_key_matches_in_composed_and_decomposed_form(tmp_path: Path) -> None:
    models = ModelsFolder(tmp_path)
    composed, apart = (unicodedata.normalize(form, "modèle") for form in ("NFC", "NFD"))
    models.add_llm(f"acmé/{apart}-GGUF/{apart}-Q8_0.gguf")
    (entry,) = Catalog(tmp_path).scan()
    assert entry.model_key == composed
    for key in (composed, apart, f"acmé/{composed}", f"acmé/{apart}-GGUF", entry.path, composed.upper()):
        assert Catalog(tmp_path).resolve(key, "llm")[0].path == entry.path


def test_names_of_different_unicode_forms_are_different_models(tmp_path: Path) -> None:
    models = ModelsFolder(tmp_path)
    for form in ("NFC", "NFD"):
        models.add_llm(f"acme/{unicodedata.normalize(form, 'modèle')}.gguf")
    catalog = Catalog(tmp_path)
    entries = catalog.scan()
    if len(entries) == 1:
        pytest.skip("this file system treats the two names as one")
    assert {catalog.resolve(entry.model_key, "llm")[0].path for entry in entries} == {
        entry.path for entry in entries
    }


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="on other systems every file name is valid text"
)
def test_a_file_name_that_is_no_valid_text_is_skipped(tmp_path: Path) -> None:
    models = ModelsFolder(tmp_path)
    models.add_llm(SOUND)
    for name in (b"\xff.gguf", b"\xe2\x80\xaetxt.gguf", b"a\n.gguf"):
        Path(bytes(tmp_path).decode(), "acme", name.decode("utf-8", "surrogateescape")).write_bytes(b"GGUF")
    catalog = Catalog(tmp_path)
    assert [entry.path for entry in catalog.scan()] == [SOUND]
    assert set(catalog.broken.values()) == {"its path is too long or has control characters"}


pieces = st.sampled_from(
    [
        "..",
        ".",
        "",
        "a",
        "con",
        "con ",
        "NUL.gguf",
        "com¹",
        "x:y",
        "a\\b",
        "a ",
        "a.",
        ".a",
        "mmproj",
        "a\0",
        "\u202e",
    ]
) | st.text(max_size=5)


def _is_device(name: str) -> bool:
    """Return whether Windows treats the name as a device, such as ``NUL`` or ``com1.gguf``."""
    if sys.version_info >= (3, 13):
        return ntpath.isreserved(name)
    return PureWindowsPath(name).is_reserved()


@given(
    repository=st.sampled_from(["acme/tiny", "con/aux", "acme/nul"]),
    paths=st.lists(st.lists(pieces, min_size=1, max_size=6).map("/".join), max_size=4),
)
def test_downloaded_files_stay_within_the_models_folder(repository: str, paths: list[str]) -> None:
    files = tuple(HubFile(f"{path}.gguf", 1, "a" * 64, None) for path in {*paths, "sound"})
    for model in models_of(Listing(repository, "c" * 40, files)):
        assert repository == "acme/tiny"
        for file in model.files:
            place = model.place(file)
            for parsed in (PurePosixPath(place), PureWindowsPath(place)):
                assert not parsed.is_absolute()
                assert not parsed.drive
                assert ".." not in parsed.parts
            assert place.startswith(f"{repository}/")
            assert not any(map(_is_device, place.split("/")))

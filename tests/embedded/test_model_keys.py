"""Keys of models in the forms that LM Studio and other programs use."""

from __future__ import annotations

import pytest

from lmstudio_async.embedded._catalog._catalog import Catalog
from lmstudio_async.testing import ModelsFolder

TINY_Q4 = "acme/tiny-GGUF/tiny-Q4_K_M.gguf"
TINY_Q8 = "acme/tiny-GGUF/tiny-Q8_0.gguf"


@pytest.mark.parametrize(
    "key",
    [
        "tiny@8bit",
        "acme/tiny@8-bit",
        "tiny:Q8_0",
        "acme/tiny-GGUF:Q8_0",
        "acme/tiny-GGUF:UD-Q8_0",
    ],
)
def test_model_is_found_by_its_quantization_as_other_programs_write_it(
    models: ModelsFolder, catalog: Catalog, key: str
) -> None:
    models.add_llm(TINY_Q4)
    models.add_llm(TINY_Q8)
    entry, ambiguous = catalog.resolve(key, "llm")
    assert (entry.path, ambiguous) == (TINY_Q8, None)


def test_a_key_with_bits_lists_all_models_of_these_bits(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm("acme/tiny-GGUF/tiny-Q4_0.gguf")
    models.add_llm(TINY_Q4)
    models.add_llm(TINY_Q8)
    entry, ambiguous = catalog.resolve("tiny@4bit", "llm")
    assert (entry.path, ambiguous) == (TINY_Q4, ["tiny@q4_k_m", "tiny@q4_0"])


def test_imatrix_model_has_the_key_of_lm_studio(models: ModelsFolder, catalog: Catalog) -> None:
    models.add_llm("mradermacher/Foo-i1-GGUF/Foo.i1-Q4_K_S.gguf")
    models.add_llm("mradermacher/Foo-GGUF/Foo.Q4_K_S.gguf")
    assert [entry.model_key for entry in catalog.scan()] == ["foo", "foo-i1"]

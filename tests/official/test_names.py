"""The list of names that the packages here are compared with is that of the official package."""

from __future__ import annotations

import json

from tests.official.names import FILE, read_names


def test_the_list_of_names_is_that_of_the_package() -> None:
    assert json.loads(FILE.read_text(encoding="utf-8")) == read_names()

"""The file of official names, with which the packages here are compared, is up to date."""

from __future__ import annotations

import json

from tests.official.names import FILE, read_names


def test_official_names_file_matches_the_official_package() -> None:
    assert json.loads(FILE.read_text(encoding="utf-8")) == read_names()

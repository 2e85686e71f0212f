"""The table of families is complete."""

from __future__ import annotations

from pathlib import Path

from tests.templates.families import FAMILIES
from tests.templates.faults import FAULTS


def test_families_are_those_that_have_a_template(sources: Path) -> None:
    assert {path.stem for path in (sources / "templates").glob("*.jinja")} == {*FAMILIES}


def test_faults_are_of_families() -> None:
    assert {*FAULTS} <= {*FAMILIES}

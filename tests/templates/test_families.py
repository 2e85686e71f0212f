"""The table of families is complete."""

from __future__ import annotations

from pathlib import Path

from tests.templates.families import FAMILIES
from tests.templates.faults import FAULTS


def test_every_template_has_a_family(sources: Path) -> None:
    assert {path.stem for path in (sources / "templates").glob("*.jinja")} == {*FAMILIES}


def test_every_fault_names_a_family() -> None:
    assert {*FAULTS} <= {*FAMILIES}

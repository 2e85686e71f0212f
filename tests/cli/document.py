"""The document `docs/lmsa.md` in parts."""

from __future__ import annotations

import re
from pathlib import Path

__all__ = ["DOCUMENT", "DOCUMENTED", "SECTIONS", "codes", "examples", "fields", "table"]

DOCUMENT = (Path(__file__).parents[2] / "docs" / "lmsa.md").read_text(encoding="utf-8")

#: Heading -> the text of the section.
SECTIONS: dict[str, str] = dict(
    re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", DOCUMENT, re.DOTALL | re.MULTILINE)
)

#: Name of a command -> the text of its section.
DOCUMENTED = {name.removeprefix("lmsa "): text for name, text in SECTIONS.items() if name.startswith("lmsa ")}


def codes(text: str) -> list[str]:
    """Return the texts in backticks, outside of examples."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    return [code.replace("\\|", "|") for code in re.findall(r"`([^`]+)`", prose)]


def table(text: str) -> list[list[str]]:
    """Return the rows of the tables in a text, without their headings, as cells."""
    bodies = re.findall(r"^\|[ :|-]+\|\n((?:\|.*\|(?:\n|\Z))+)", text, re.MULTILINE)
    return [re.split(r"(?<!\\) \| ?", row[2:-2]) for body in bodies for row in body.splitlines()]


def examples(text: str) -> list[str]:
    """Return the lines of the examples for a shell, without comments."""
    lines = "".join(re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)).splitlines()
    return [found[1] for line in lines if (found := re.match(r"(.*?)\s*(?: # .*)?$", line)) and found[1]]


def fields(command: str) -> set[str]:
    """Return the fields of the JSON of a command: the words in backticks in the paragraph that begins with `--json`."""
    (paragraph,) = re.findall(r"^`--json`:.*?(?=\n\n|\Z)", DOCUMENTED[command], re.DOTALL | re.MULTILINE)
    return {code for code in codes(paragraph) if code.isidentifier()}

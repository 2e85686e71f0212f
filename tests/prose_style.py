"""Find sentences that open with a word which stands for a thing instead of naming it.

A sentence such as "What is stopped has a channel" makes its reader look for the subject, and a search for the subject
does not find it.
The check reads docstrings, comments, messages of exceptions and warnings, test names, and Markdown::

    python tests/prose_style.py

It prints the place of each such sentence, and ends with 1 if there is any. See CONTRIBUTING.md for the style.
"""

from __future__ import annotations

import ast
import io
import re
import sys
import textwrap
import tokenize
from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple

__all__ = ["Finding", "findings_in_markdown", "findings_in_python", "main"]

ROOT = Path(__file__).parent.parent
#: Openings that hide the subject of a sentence.
OPENINGS = {
    "anybody",
    "everybody",
    "nobody",
    "somebody",
    "such",
    "those",
    "what",
    "whatever",
    "which",
    "whichever",
    "who",
    "whoever",
    "whom",
    "whose",
}
#: Callables whose texts are shown to people, beside exceptions.
TELLING = frozenset({"warn", "fail", "skip"})

_SENTENCE_END = re.compile(r"""(?<=[.!?])["')\]*_`]*\s+(?=["'(\[*_`]*[A-Z0-9`])""")
_FIELD = re.compile(r"^:\w+(?: [^:]+)?:\s*")
_BULLET = re.compile(r"^(?:[-*+]|\d+\.)\s+")
_FIRST_WORD = re.compile(r"""^["'(\[*_]*([A-Za-z]+)\b(?!-)""")


class Finding(NamedTuple):
    """A sentence that opens with one of `OPENINGS`."""

    path: str
    line: int
    sentence: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.sentence}"


class _Text(NamedTuple):
    """Lines of prose that belong together, and where they are."""

    line: int
    lines: list[str]


def findings_in_python(path: str, source: str) -> list[Finding]:
    """Check docstrings, comments, messages and test names of a module."""
    tree = ast.parse(source)
    texts = [*_docstrings(tree), *_comments(source), *_messages(tree)]
    found = [Finding(path, line, sentence) for line, sentence in _sentences(texts) if _is_opaque(sentence)]
    names = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    found += [
        Finding(path, node.lineno, node.name)
        for node in names
        if node.name.startswith("test_") and node.name.split("_")[1] in OPENINGS
    ]
    return sorted(found, key=lambda each: each.line)


def findings_in_markdown(path: str, source: str) -> list[Finding]:
    """Check headings, paragraphs, list items and table cells of a document; not its code."""
    texts: list[_Text] = []
    is_code = False
    for number, line in enumerate(source.splitlines(), 1):
        if line.lstrip().startswith("```"):
            is_code = not is_code
        elif is_code:
            continue
        elif line.startswith("|"):
            texts += [_Text(number, [cell.strip()]) for cell in line.strip("|").split("|")]
            texts.append(_Text(number, [""]))
        elif line.startswith("#"):
            texts += [_Text(number, [line.lstrip("# ")]), _Text(number, [""])]
        elif texts and texts[-1].line + len(texts[-1].lines) == number:
            texts[-1].lines.append(line)
        else:
            texts.append(_Text(number, [line]))
    return [Finding(path, line, sentence) for line, sentence in _sentences(texts) if _is_opaque(sentence)]


def _docstrings(tree: ast.Module) -> Iterator[_Text]:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if not isinstance(node, documented) or not node.body:
            continue
        first = node.body[0]
        if (
            isinstance(first, ast.Expr)
            and isinstance(first.value, ast.Constant)
            and isinstance(first.value.value, str)
        ):
            head, _, body = first.value.value.partition("\n")
            yield _Text(first.lineno, [head, *_without_examples(textwrap.dedent(body).splitlines())])


def _without_examples(lines: Iterable[str]) -> Iterator[str]:
    """Empty the literal blocks, which a line that ends with ``::`` opens."""
    is_example = False
    for line in lines:
        if is_example and line.strip() and not line.startswith(" "):
            is_example = False
        yield "" if is_example else line
        if line.rstrip().endswith("::"):
            is_example = True


def _comments(source: str) -> Iterator[_Text]:
    text: _Text | None = None
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT:
            continue
        comment = token.string.lstrip("#:! ")
        # A sentence goes on in the next line's comment, unless code stands before one of them.
        stands_alone = not token.line[: token.start[1]].strip()
        if stands_alone and text is not None and text.line + len(text.lines) == token.start[0]:
            text.lines.append(comment)
            continue
        if text is not None:
            yield text
        text = _Text(token.start[0], [comment])
        if not stands_alone:
            yield text
            text = None
    if text is not None:
        yield text


def _messages(tree: ast.Module) -> Iterator[_Text]:
    """Texts that an exception is made with, or that a warning gives."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise):
            calls = [node.exc]
        elif isinstance(node, ast.Call) and _name(node.func) in TELLING:
            calls = [node]
        else:
            continue
        for call in calls:
            if isinstance(call, ast.Call):
                for argument in [*call.args, *[each.value for each in call.keywords]]:
                    text = _literal(argument)
                    if text:
                        yield _Text(argument.lineno, [text.replace("\n", " ")])


def _literal(node: ast.expr) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        # A value stands for a thing, by whatever name.
        return "".join(str(each.value) if isinstance(each, ast.Constant) else "X" for each in node.values)
    return ""


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _sentences(texts: Iterable[_Text]) -> Iterator[tuple[int, str]]:
    """Split texts into sentences, each with its line; a field, a list item and a new paragraph begin one as well."""
    for first, lines in texts:
        paragraph: list[tuple[int, str]] = []
        for number, line in enumerate([*lines, ""], first):
            stripped = line.strip()
            opener = _FIELD.match(stripped) or _BULLET.match(stripped)
            if opener or not stripped:
                yield from _split(paragraph)
                paragraph = []
            if stripped:
                paragraph.append((number, stripped[opener.end() :] if opener else stripped))


def _split(paragraph: Sequence[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    text = " ".join(line for _, line in paragraph)
    ends = accumulate(len(line) + 1 for _, line in paragraph)
    lines = list(zip(ends, (number for number, _ in paragraph), strict=True))
    start = 0
    for end in [*_SENTENCE_END.finditer(text), None]:
        sentence = text[start : end.start() if end else None].strip()
        if sentence:
            yield next(number for after, number in lines if after > start), sentence
        start = end.end() if end else start


def _is_opaque(sentence: str) -> bool:
    word = _FIRST_WORD.match(sentence)
    return word is not None and word[1].lower() in OPENINGS


def _checked_files() -> Iterator[Path]:
    for folder in ("lmstudio_async", "lmstudio_sync", "tests", "benchmarks"):
        yield from sorted((ROOT / folder).rglob("*.py"))
    yield from [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def main() -> int:
    """Check the whole project; return the exit code."""
    found: list[Finding] = []
    for path in _checked_files():
        check = findings_in_markdown if path.suffix == ".md" else findings_in_python
        found += check(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
    for each in found:
        sys.stdout.write(f"{each}\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())

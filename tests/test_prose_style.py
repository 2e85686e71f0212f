"""The check of the prose finds sentences that hide their subject, wherever they stand, and leaves all others alone."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.prose_style import findings_in_markdown, findings_in_python

ROOT = Path(__file__).parent.parent


def found(source: str) -> list[tuple[int, str]]:
    return [(each.line, each.sentence) for each in findings_in_python("a.py", source)]


@pytest.mark.parametrize(
    ("source", "line", "opening"),
    [
        ('"""What is sent."""\n', 1, "What is sent."),
        ('class A:\n    """A class.\n\n    Who asks gets it.\n    """\n', 4, "Who asks gets it."),
        ('def f():\n    """Return it. Nobody waits."""\n', 2, "Nobody waits."),
        ('def f(x):\n    """Do.\n\n    :param x: what it is called.\n    """\n', 4, "what it is called."),
        ('def f():\n    """Do.\n\n    :return: those that fit.\n    """\n', 4, "those that fit."),
        ('"""List.\n\n- such as fit\n"""\n', 3, "such as fit"),
        ("# Whoever stops it waits.\n", 1, "Whoever stops it waits."),
        ("a = 1\n# The loop ends here. Whatever\n# comes is lost.\n", 2, "Whatever comes is lost."),
        ("a = 1  # Somebody waits.\n", 1, "Somebody waits."),
        ("#: Which ones fit.\nA = 1\n", 1, "Which ones fit."),
        ("raise ValueError('What is this?')\n", 1, "What is this?"),
        ("raise ValueError(f'{a} is wrong. Those are right: {b}')\n", 1, "Those are right: X"),
        ("warnings.warn('Everybody can connect.')\n", 1, "Everybody can connect."),
        ("def test_what_is_lost_is_found():\n    pass\n", 1, "test_what_is_lost_is_found"),
    ],
)
def test_sentence_without_a_subject_is_found(source: str, line: int, opening: str) -> None:
    assert found(source) == [(line, opening)]


@pytest.mark.parametrize(
    "source",
    [
        '"""The request and its answer. It says what it sends, and to whom."""\n',
        '"""Examples.\n\n::\n\n    What is the meaning of life?\n"""\n',
        "# The worker ends when nobody uses it.\n",
        "# What-if is the name of a game.\n",
        "a = 'What is the meaning of life?'\n",
        "raise ValueError('the model is gone')\n",
        "def test_loads_name_what_they_load():\n    pass\n",
        "def what_is_sent():\n    pass\n",
    ],
)
def test_sentence_with_a_subject_is_left_alone(source: str) -> None:
    assert found(source) == []


def test_markdown_is_checked_outside_its_code() -> None:
    text = (
        "# What it is\n\nA sentence.\nStill the. Those are\ntwo.\n\n"
        "```python\nWhat = 1\n```\n\n| key | what it sets |\n|---|---|\n- Such items\n\n**Nobody** waits.\n"
    )
    assert [(each.line, each.sentence) for each in findings_in_markdown("a.md", text)] == [
        (1, "What it is"),
        (4, "Those are two."),
        (11, "what it sets"),
        (13, "Such items"),
        (15, "**Nobody** waits."),
    ]


def test_the_program_names_file_and_line_of_each_finding(tmp_path: Path) -> None:
    for folder in ("lmstudio_async", "tests"):
        (tmp_path / folder).mkdir()
    (tmp_path / "lmstudio_async" / "a.py").write_text("a = 1\n# What is left.\n")
    (tmp_path / "README.md").write_text("# Title\n")
    checker = tmp_path / "tests" / "prose_style.py"
    checker.write_text((ROOT / "tests" / "prose_style.py").read_text(encoding="utf-8"))

    def check() -> tuple[int, str]:
        command = [sys.executable, "-I", "-S", str(checker)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    assert check() == (1, "lmstudio_async/a.py:2: What is left.\n")
    (tmp_path / "lmstudio_async" / "a.py").write_text("a = 1\n# The rest.\n")
    assert check() == (0, "")

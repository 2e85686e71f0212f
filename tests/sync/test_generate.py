"""The generator: its output for given source text, and the check that the committed modules are up to date."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from lmstudio_sync._generator import _main as generator
from lmstudio_sync._generator._layout import fold, split
from lmstudio_sync._generator._prose import Prose
from lmstudio_sync._generator._reading import Module
from lmstudio_sync._generator._rules import PROSE, GenerateError, blocking

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "lmstudio_sync" / "_generate.py"


def twin(source: str) -> str:
    """Return the facade's module for a core module with one class, without its head."""
    from lmstudio_sync._generator._classes import Writer

    module = Module("_things", '__all__ = ["AsyncThing", "AsyncOther"]\n' + textwrap.dedent(source))
    home = {node.name: "_things" for node in module.twins} | {"AsyncFar": "_far"}
    return Writer(module, home, Prose()).write()


def body(source: str) -> str:
    """Return the facade's members for the members of a core class, both as source text."""
    made = twin(
        'class AsyncThing:\n    """A thing."""\n\n' + textwrap.indent(textwrap.dedent(source), "    ")
    )
    return textwrap.dedent(made.partition("    _core: AsyncThing\n\n")[2])


# -- committed modules


def test_the_committed_modules_are_up_to_date() -> None:
    done = subprocess.run([sys.executable, SCRIPT, "--check"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_generator_runs_without_either_package_and_writes_missing_modules(tmp_path: Path) -> None:
    for folder in ("lmstudio_async", "lmstudio_sync/_generator"):
        (tmp_path / folder).mkdir(parents=True)
        for path in (ROOT / folder).glob("*.py"):
            (tmp_path / folder / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    script = tmp_path / "lmstudio_sync" / "_generate.py"
    script.write_text(SCRIPT.read_text(encoding="utf-8"), encoding="utf-8")
    (tmp_path / "lmstudio_sync" / "_orphan.py").touch()

    def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, "-I", "-S", str(script), *arguments]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    status, output = run("--check")
    assert status == 1
    assert "lmstudio_sync/_client.py: missing" in output
    assert "lmstudio_sync/_orphan.py: an orphan" in output
    assert run()[0] == 0
    assert run("--check") == (0, "")
    assert (script.parent / "_client.py").read_text() == (SCRIPT.parent / "_client.py").read_text()
    assert not (script.parent / "_orphan.py").exists()


def test_the_check_names_differing_missing_and_orphaned_modules() -> None:
    made = {"_a.py": "a", "_b.py": "b", "_c.py": "c"}
    found = {"_a.py": "a", "_b.py": "changed", "_d.py": "d", "_bridge.py": "by hand"}
    assert generator.complaints(made, found) == ["_b.py: differs", "_c.py: missing", "_d.py: an orphan"]


def test_a_rule_that_matches_nothing_is_an_error() -> None:
    prose = Prose()
    assert prose.unused == set(PROSE)
    prose(next(iter(PROSE)))
    assert len(prose.unused) == len(PROSE) - 1
    sources = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "lmstudio_async").glob("*.py")}
    sources["_load.py"] = sources["_load.py"].replace("await its handle", "wait for its handle")
    with pytest.raises(GenerateError, match="await its handle"):
        generator.generate(sources)


# -- methods and classes


def test_a_coroutine_becomes_one_call_over_the_bridge() -> None:
    assert body(
        '''
        async def ask(self, text: str, /, size: int = 3, *, loud: bool = False) -> int:
            """Ask.

            ::

                print(await thing.ask("why"))
            """
            return await self._session.call(text)
        '''
    ) == textwrap.dedent(
        '''\
        def ask(self, text: str, /, size: int = 3, *, loud: bool = False) -> int:
            """Ask.

            ::

                print(thing.ask("why"))
            """
            return self._bridge.call(self._core.ask(text, size, loud=loud))
        '''
    )


def test_a_coroutine_without_a_result_returns_nothing() -> None:
    assert "    self._bridge.call(self._core.stop())\n" in body(
        'async def stop(self) -> None:\n    """Stop."""\n'
    )


def test_a_property_and_a_plain_method_need_no_bridge() -> None:
    made = body(
        '''
        @property
        def size(self) -> int:
            """How big."""
            return 1

        def half(self, of: int) -> int:
            """Half of it."""
            return of
        '''
    )
    assert "@property\ndef size(self) -> int:" in made
    assert "    return self._core.size\n" in made
    assert "    return self._core.half(of)\n" in made


def test_a_result_with_objects_of_the_core_is_wrapped_in_their_twins() -> None:
    made = body('async def others(self) -> list[AsyncThing]:\n    """All."""\n')
    assert "def others(self) -> list[Thing]:" in made
    assert "return self._bridge.call(self._core.others(), self._wrap)" in made


def test_a_coroutine_that_returns_self_returns_the_twin() -> None:
    assert body('async def start(self) -> Self:\n    """Begin."""\n').endswith(
        "    self._bridge.call(self._core.start(), undo=self._core._abandon)\n    return self\n"
    )


def test_aclose_becomes_a_close_that_may_follow_the_end_of_the_client() -> None:
    made = body('async def aclose(self) -> None:\n    """Let go."""\n')
    assert made.startswith("def close(self) -> None:")
    assert "self._bridge.finish(self._core.aclose())" in made


def test_callbacks_are_called_over_the_bridge() -> None:
    made = body('async def ask(self, *, on_word: WordCallback | None = None) -> None:\n    """Ask."""\n')
    assert 'self._core.ask(on_word=self._bridge.callback("on_word", on_word))' in made


def test_overloads_are_kept_with_their_type_ignore_comments() -> None:
    made = body(
        '''
        @overload
        async def ask(self, text: str) -> int: ...  # type: ignore[overload-overlap]  # noqa: A002 - documented

        @overload
        async def ask(self, text: list[str]) -> list[int]: ...

        async def ask(self, text: str | list[str]) -> int | list[int]:
            """Ask."""
            return 1
        '''
    )
    assert "@overload\ndef ask(self, text: str) -> int: ...  # type: ignore[overload-overlap]\n" in made
    assert "@overload\ndef ask(self, text: list[str]) -> list[int]: ...\n" in made


def test_special_methods_become_their_blocking_counterparts() -> None:
    made = body(
        """
        async def __aenter__(self) -> Self: ...
        async def __aexit__(self, *, exc: BaseException | None) -> None: ...
        def __aiter__(self) -> Self: ...
        async def __anext__(self) -> int: ...
        def __await__(self) -> int: ...
        def __del__(self) -> None: ...
        def __hash__(self) -> int: ...
        def __repr__(self) -> str: ...
        """
    )
    names = ["__enter__", "__exit__", "__iter__", "__next__", "__hash__", "__repr__"]
    assert [
        line.split("(")[0].removeprefix("def ") for line in made.splitlines() if line.startswith("def")
    ] == names
    assert "    return self._bridge.next(self._core)\n" in made


def test_private_methods_are_the_cores_own() -> None:
    made = twin('class AsyncThing:\n    """A thing."""\n\n    def _secret(self) -> int: ...\n')
    assert made.endswith('class Thing(Facade):\n    """A thing."""\n')


def test_classes_keep_their_bases_and_type_variables() -> None:
    made = twin(
        '''
        from lmstudio_async._far import AsyncFar, Value
        T = TypeVar("T", bound="AsyncThing[Any]")
        V = TypeVar("V", bound=Value)
        Unused = TypeVar("Unused")

        class AsyncThing(ABC, AsyncFar[T, Value], Generic[T, V]):
            """A thing."""

            async def give(self) -> T:
                """Give."""

            async def value(self) -> V:
                """Give a value."""
        '''
    )
    assert "class Thing(Far[T, Value], Generic[T, V]):" in made
    assert "_core: AsyncThing[Any, V]" in made
    assert 'T = TypeVar("T", bound="Thing[Any]")\nV = TypeVar("V", bound=Value)\n' in made
    assert "Unused" not in made
    assert "from lmstudio_async._far import Value\n" in made
    assert "from lmstudio_sync._far import Far\n" in made
    assert "return self._bridge.call(self._core.give(), self._wrap)" in made
    assert "return self._bridge.call(self._core.value())" in made


def test_an_import_for_type_checkers_stays_one() -> None:
    made = twin(
        '''
        from typing import TYPE_CHECKING
        from lmstudio_async._near import AsyncNear
        if TYPE_CHECKING:
            from lmstudio_async._far import AsyncFar, Early, Late

        class AsyncThing(AsyncNear["Early | Late", "AsyncFar"]):
            """A thing."""

            def far(self) -> AsyncFar:
                """Give what is far."""
        '''
    )
    assert 'class Thing(Near["Early | Late", "Far"]):' in made
    runtime, _, typing_only = made.partition("if TYPE_CHECKING:\n")
    assert "_far" not in runtime
    assert typing_only.startswith(
        "    from lmstudio_async._far import Early, Late\n    from lmstudio_sync._far import Far\n\n"
    )


@pytest.mark.parametrize(
    "source",
    [
        'async def ask(self, *args: int) -> int:\n    """Ask."""\n',
        "async def ask(self) -> int: ...\n",
        '@cached\nasync def ask(self) -> int:\n    """Ask."""\n',
        '@classmethod\ndef ask(cls) -> int:\n    """Ask."""\n',
        "def __len__(self) -> int: ...\n",
    ],
)
def test_a_member_that_no_rule_covers_is_an_error(source: str) -> None:
    with pytest.raises(GenerateError):
        body(source)


# -- docstrings


def test_phrase_that_a_line_end_cuts_is_translated_and_wrapped_again() -> None:
    made = body(
        f'''
        async def ask(self) -> int:
            """Ask. {"Nothing more. " * 6}A timeout, cancellation of
            the task, or closing the client ends it.

            :param text: {"words " * 12}from any
                task, {"words " * 14}
            """
            return await self._session.call(text)
        '''
    )
    lines = made.splitlines()[1:]
    assert lines[0].startswith('    """Ask. Nothing more.')
    assert "cancellation" not in made
    assert "A timeout, an interrupt, or closing the client ends it." in " ".join(made.split())
    assert "from any thread" in " ".join(made.split())
    assert max(map(len, lines)) <= 116
    assert [line for line in lines if line.startswith("        words")] == [lines[4]]


def test_paragraph_that_needs_no_rule_keeps_its_lines() -> None:
    docstring = '"""Ask.\n\n    Short\n    lines.\n\n    - one\n    - two\n    """'
    assert Prose()(docstring) == docstring


def test_example_keeps_its_lines_and_loses_its_awaits() -> None:
    docstring = '"""Ask.\n\n    ::\n\n        a = await f()\n\n        b = 2\n\n    Also await.\n    """'
    assert Prose()(docstring) == docstring.replace("await f", "f")


# -- text


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("async with AsyncClient() as client:", "with Client() as client:"),
        ("async for x in await thing.go():", "for x in thing.go():"),
        ("print((await client.system.version()).version)", "print(client.system.version().version)"),
        ("Async-first; asynchronous; Asyncio", "Async-first; asynchronous; Asyncio"),
        ("await x.aclose()", "x.close()"),
    ],
)
def test_example_code_loses_async_and_await(text: str, made: str) -> None:
    assert blocking(text) == made


def test_short_lines_stay_whole() -> None:
    assert fold("return f(a, b)", 4) == ["    return f(a, b)"]


def test_long_lines_are_cut_as_the_formatter_cuts_them() -> None:
    wide = ", ".join(f"parameter_{n}: int" for n in range(5))
    assert fold(f"def f(self, {wide}) -> list[int]:", 4) == [
        "    def f(",
        f"        self, {wide}",
        "    ) -> list[int]:",
    ]
    wider = [f"parameter_{n}: dict[str, int]" for n in range(5)]
    assert fold(f"def f({', '.join(wider)}) -> int:", 0) == [
        "def f(",
        *(f"    {each}," for each in wider),
        ") -> int:",
    ]
    nested = "x" * 100
    assert fold(f"return f(g({nested}))", 4) == [
        "    return f(",
        "        g(",
        f"            {nested}",
        "        )",
        "    )",
    ]


def test_lists_are_cut_at_their_own_commas_only() -> None:
    assert split('a[b, c], d(e, f), "g, h"', ",") == ["a[b, c]", "d(e, f)", '"g, h"']

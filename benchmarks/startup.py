"""Measurement of whole processes: the processor time and the memory of a script from its start to its end."""

from __future__ import annotations

import compileall
import os
import subprocess
import sys
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from benchmarks.meter import take_a_core

__all__ = ["CONTENDERS", "measure"]

_NO_EXTRA = "import sys; sys.modules['orjson'] = None\n"
_HEAVY = ("asyncio", "httpx", "anyio", "cattrs")

_ASYNC = """
import asyncio, {package} as lms
async def main():
    async with lms.AsyncClient(sys.argv[1]) as client:
        {work}
asyncio.run(main())
"""
_SYNC = """
import {package} as lms
with lms.Client(sys.argv[1]) as client:
    {work}
"""
_LIST = {"async": "print(await client.llm.list_loaded())", "sync": "print(client.llm.list_loaded())"}
_STREAM = {
    "async": """llm = await client.llm.model("tiny")
        count = 0
        async for fragment in await llm.respond_stream("n=10000 mode=burst"):
            count += 1
        assert count == 10000""",
    "sync": """llm = client.llm.model("tiny")
    count = 0
    for fragment in llm.respond_stream("n=10000 mode=burst"):
        count += 1
    assert count == 10000""",
}

_PACKAGES = {
    "ours": ("async", "lmstudio_async"),
    "ours, blocking": ("sync", "lmstudio_sync"),
    "official": ("async", "lmstudio"),
    "official, blocking": ("sync", "lmstudio"),
}
CONTENDERS = ("bare Python", *_PACKAGES)


def measure(contender: str, host: str, *, pin: bool = False, real_time: bool = False) -> dict[str, float]:
    """Measure processor time and peak memory (in MiB) of the scripts of one contender."""
    if contender == "bare Python":
        return _run("pass", "import", host, pin=pin, real_time=real_time)
    kind, package = _PACKAGES[contender]
    _compile(package)
    script = _ASYNC if kind == "async" else _SYNC
    scripts = {
        "import": f"import {package}",
        "list": script.format(package=package, work=_LIST[kind]),
        "stream": script.format(package=package, work=_STREAM[kind]),
    }
    figures: dict[str, float] = {}
    for name, source in scripts.items():
        figures |= _run(source, name, host, pin=pin, real_time=real_time)
    counting = f"import {package}\nprint(sum(name in sys.modules for name in {_HEAVY}))"
    figures["import.heavy"] = int(subprocess.check_output([sys.executable, "-c", _NO_EXTRA + counting]))
    return figures


@cache
def _compile(package: str) -> None:
    """Compile a package. An installed one has bytecode, but a checkout may have none."""
    spec = find_spec(package)
    assert spec is not None
    for place in spec.submodule_search_locations or ():
        compileall.compile_dir(place, quiet=1)


def _run(source: str, name: str, host: str, *, pin: bool, real_time: bool) -> dict[str, float]:
    process = subprocess.Popen(
        [sys.executable, "-c", _NO_EXTRA + source, host],
        stdout=subprocess.DEVNULL,
        preexec_fn=(lambda: take_a_core(0, real_time=real_time)) if pin else None,  # noqa: PLW1509 - no threads here
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{Path(sys.executable).name} ended with {process.returncode} at:\n{source}")
    # macOS reports bytes, and the other systems report kibibytes.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return {f"{name}.cpu": usage.ru_utime + usage.ru_stime, f"{name}.peak": usage.ru_maxrss / unit}

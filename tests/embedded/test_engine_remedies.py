"""An engine that cannot be used: the error says what is missing on the machine of the server, and how to get it."""

from __future__ import annotations

import importlib.util
import platform
import sys
import sysconfig
from pathlib import Path

import pytest

from lmstudio_async import AsyncClient, EmbeddedServer, LMStudioMissingRuntimeError
from lmstudio_async._install_command import install_command
from lmstudio_async.embedded._requirements import ILLEGAL_INSTRUCTION, engine_remedy
from lmstudio_async.testing import ModelsFolder

# The libraries and the platforms are named for Linux. The remedies for others do not depend on this machine.
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the errors are those of Linux")


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules worker processes import in place of the installed ones."""
    folder = tmp_path / "engine"
    folder.mkdir()
    monkeypatch.setenv("PYTHONPATH", str(folder))
    return folder


async def why_no_model(models: ModelsFolder) -> str:
    """Return the error of a load."""
    models.add_llm("tiny")
    async with AsyncClient(EmbeddedServer(models.folder, threads=1)) as client:
        with pytest.raises(LMStudioMissingRuntimeError) as caught:
            await client.llm.model("tiny")
        assert await client.llm.list_loaded() == []
    return str(caught.value)


async def test_load_without_libgomp_names_its_package(models: ModelsFolder, engine: Path) -> None:
    spec = importlib.util.find_spec("xllamacpp")
    assert spec is not None and spec.origin is not None
    library = next(Path(spec.origin).parent.glob("xllamacpp*.so")).read_bytes()
    if b"\0libgomp.so.1\0" not in library:
        pytest.skip("this build of the engine does not need libgomp")
    # The same engine on a system without this library.
    lacking = library.replace(b"\0libgomp.so.1\0", b"\0libgomp.so.9\0")
    (engine / "xllamacpp.abi3.so").write_bytes(lacking)
    message = await why_no_model(models)
    assert "libgomp.so.9: cannot open shared object file" in message
    assert "The library libgomp.so.9 is missing where the server runs: apt-get install libgomp1" in message
    assert "pip install" not in message


async def test_load_on_a_cpu_without_the_instructions_says_so(models: ModelsFolder, engine: Path) -> None:
    # The signal that the kernel sends for an illegal instruction.
    (engine / "xllamacpp.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGILL)\n")
    message = await why_no_model(models)
    assert "it used an instruction that this CPU does not have" in message
    assert "The prebuilt engine is for CPUs with " in message
    assert "pip install --force-reinstall --no-deps --no-binary xllamacpp" in message


async def test_load_without_the_engine_has_the_command_that_installs_it(
    models: ModelsFolder, engine: Path
) -> None:
    (engine / "xllamacpp.py").write_text("raise ModuleNotFoundError(\"No module named 'xllamacpp'\")\n")
    assert (await why_no_model(models)).endswith(
        f"Install it where the server runs: {install_command('embedded')}"
    )


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (
            "libgomp.so.1: cannot open shared object file: No such file or directory",
            "apt-get install libgomp1",
        ),
        ("libstdc++.so.6: cannot open shared object file: No such file", "apt-get install libstdc++6"),
        ("libcuda.so.1: cannot open shared object file: No such file", "docker run --gpus all"),
        ("libcudart.so.12: cannot open shared object file: No such file", "install the CUDA runtime"),
        ("libvulkan.so.1: cannot open shared object file: No such file", "apt-get install libvulkan1"),
        ("libamdhip64.so.7: cannot open shared object file: No such file", "install ROCm"),
        ("libodd.so.3: cannot open shared object file", "install the package of the system that has it"),
        (
            "/lib/x86_64-linux-gnu/libm.so.6: version `GLIBC_2.35' not found (required by xllamacpp.abi3.so)",
            "older than this build of the engine needs (GLIBC_2.35 is missing)",
        ),
        (
            "/lib/x86_64-linux-gnu/libstdc++.so.6: version `GLIBCXX_3.4.30' not found (required by x.so)",
            "(GLIBCXX_3.4.30 is missing)",
        ),
        (
            "dlopen(xllamacpp.abi3.so, 0x0002): Library not loaded: @rpath/libomp.dylib",
            "The library libomp.dylib is missing",
        ),
        (
            "mach-o file, but is an incompatible architecture (have 'x86_64', need 'arm64')",
            "for another kind of machine",
        ),
        (
            "DLL load failed while importing xllamacpp: The specified module could not be found.",
            "Visual C++ Redistributable",
        ),
        ("something else", "Install it again where the server runs: pip install --force-reinstall"),
    ],
)
def test_remedy_fits_the_import_error(error: str, remedy: str) -> None:
    assert remedy in engine_remedy(f"the engine (the package xllamacpp) cannot be imported: {error}")


@pytest.mark.parametrize("reason", ["", "libc.musl-x86_64.so.1: cannot open shared object file"])
def test_remedy_on_musl_is_another_image(reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysconfig, "get_config_var", {"HOST_GNU_TYPE": "x86_64-pc-linux-musl"}.get)
    remedy = engine_remedy(reason)
    assert "There is no prebuilt engine for systems with musl" in remedy
    assert "pip install" not in remedy


@pytest.mark.parametrize(
    ("system", "machine"),
    [("linux", "riscv64"), ("linux", "armv7l"), ("win32", "ARM64"), ("freebsd14", "amd64")],
)
def test_remedy_on_an_unsupported_platform_names_the_supported_ones(
    system: str, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    remedy = engine_remedy(ILLEGAL_INSTRUCTION)
    assert (
        f"There is no prebuilt engine for {platform.system()} on {machine}, only for Linux and macOS"
        in remedy
    )
    assert "pip install" not in remedy


@pytest.mark.parametrize(
    ("system", "machine"),
    [("linux", "aarch64"), ("darwin", "arm64"), ("darwin", "x86_64"), ("win32", "AMD64")],
)
def test_remedy_on_a_supported_platform_is_the_installation(
    system: str, machine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = f"Install it where the server runs: {install_command('embedded')}"
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert engine_remedy() == expected

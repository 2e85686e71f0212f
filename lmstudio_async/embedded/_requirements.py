"""Check that the packages of the extra ``embedded`` are installed, and say what to do about an engine that is not usable."""

from __future__ import annotations

import platform
import re
import sys
import sysconfig
from collections.abc import Sequence
from typing import Final

from lmstudio_async._install_command import install_command, missing_modules
from lmstudio_async.embedded._versions import engine_version
from lmstudio_async.errors import LMStudioRuntimeError

__all__ = ["ILLEGAL_INSTRUCTION", "check_extra", "engine_remedy", "missing_remedy"]

#: The reason for the death of a worker on a CPU that the engine was not built for; see `engine_remedy`.
ILLEGAL_INSTRUCTION: Final = "it used an instruction that this CPU does not have"

_SOURCE: Final = "https://github.com/xorbitsai/xllamacpp#build-from-source"

#: The library that the linker of Linux or of macOS did not find.
_MISSING_LIBRARY: Final = re.compile(
    r"(?P<linux>[\w.+-]+\.so(?:\.\d+)*): cannot open shared object file|Library not loaded: (?P<mac>\S+)"
)
#: Beginning of its name -> what provides it.
_LIBRARIES: Final = {
    "libgomp.so": "apt-get install libgomp1 (on Fedora and its like: dnf install libgomp)",
    "libstdc++.so": "apt-get install libstdc++6 (on Fedora and its like: dnf install libstdc++)",
    "libgcc_s.so": "apt-get install libgcc-s1 (on Fedora and its like: dnf install libgcc)",
    "libvulkan.so": "apt-get install libvulkan1 (on Fedora and its like: dnf install vulkan-loader)",
    "libcuda.so": "install the driver of the NVIDIA GPU; a container gets it with docker run --gpus all",
    "libcu": "install the CUDA runtime of the version that this build of the engine is for",
    "libnccl": "install NCCL of the CUDA version that this build of the engine is for",
    "libamdhip": "install ROCm of the version that this build of the engine is for",
    "libhip": "install ROCm of the version that this build of the engine is for",
    "libroc": "install ROCm of the version that this build of the engine is for",
}
_OLD_SYSTEM: Final = re.compile(r"version [`'](?P<version>(?:GLIBC|GLIBCXX|CXXABI)_[\d.]+)' not found")
_OTHER_MACHINE: Final = re.compile(
    "invalid ELF header|wrong ELF class|incompatible architecture|not a valid Win32 application|Exec format error"
)


def check_extra() -> None:
    """Check that all packages are installed that a server on a port needs.

    :raises LMStudioRuntimeError: if a package is missing; the message has the command that installs it.
    """
    missing = missing_modules("embedded")
    if missing:
        raise LMStudioRuntimeError(
            f"The embedded server needs packages that are not installed ({', '.join(missing)}). "
            f"{missing_remedy(missing)}"
        )


def missing_remedy(missing: Sequence[str]) -> str:
    """Return what to do about modules of the extra that are not installed. The first call blocks: it reads files."""
    return engine_remedy() if "xllamacpp" in missing else f"Install them: {install_command('embedded')}"


def engine_remedy(reason: str = "", *extras: str) -> str:
    """Return what to do where the engine cannot be used. The first call blocks: it reads files.

    :param reason: the reason why it cannot be imported, or `ILLEGAL_INSTRUCTION`; empty if it is not installed.
    :param extras: the extras to install if it is not installed; by default only the engine's.
    """
    if problem := _unsupported_platform():
        return problem
    if not reason or "No module named 'xllamacpp" in reason:
        return f"Install it where the server runs: {install_command(*(extras or ('embedded',)))}"
    if ILLEGAL_INSTRUCTION in reason:
        uses = "AVX2, FMA and F16C" if _machine() == "x86_64" else "the usual instructions of its kind"
        return (
            f"The prebuilt engine is for CPUs with {uses}. A build on the machine itself fits it "
            f"(needs CMake, a C++ compiler and Rust): {_reinstall('--no-binary xllamacpp ')}"
        )
    if found := _MISSING_LIBRARY.search(reason):
        library = (found["linux"] or found["mac"]).rpartition("/")[2]
        provided = next((how for name, how in _LIBRARIES.items() if library.startswith(name)), "")
        return (
            f"The library {library} is missing where the server runs: "
            f"{provided or 'install the package of the system that has it'}"
        )
    if found := _OLD_SYSTEM.search(reason):
        return (
            f"The system where the server runs is older than this build of the engine needs ({found['version']} is "
            "missing). Use a newer release of the system. The build for CPUs runs on older ones than those for GPUs: "
            f"{_reinstall()}"
        )
    if _OTHER_MACHINE.search(reason):
        return (
            f"The engine was installed for another kind of machine. Install the one for this: {_reinstall()}"
        )
    if "DLL load failed" in reason:
        return (
            "A DLL is missing where the server runs, usually that of the Microsoft Visual C++ Redistributable: "
            "winget install Microsoft.VCRedist.2015+.x64"
        )
    return f"Install it again where the server runs: {_reinstall()}"


def _reinstall(options: str = "") -> str:
    version = engine_version()
    return f'pip install --force-reinstall --no-deps {options}"xllamacpp=={version}"'


def _machine() -> str:
    machine = platform.machine().lower()
    return {"amd64": "x86_64", "aarch64": "arm64"}.get(machine, machine)


def _unsupported_platform() -> str:
    """Return what to do on a platform for which there is no prebuilt engine; empty if there is one."""
    where = f"{platform.system()} on {platform.machine()}"
    if sys.platform == "linux" and "musl" in f"{sysconfig.get_config_var('HOST_GNU_TYPE')}":
        return (
            "There is no prebuilt engine for systems with musl, such as Alpine Linux. Use an image with glibc, such "
            f"as python:3.13-slim with libgomp1, or build it: {_SOURCE}"
        )
    machines = {"linux": ("x86_64", "arm64"), "darwin": ("x86_64", "arm64"), "win32": ("x86_64",)}
    if sys.maxsize > 1 << 32 and _machine() in machines.get(sys.platform, ()):
        return ""
    return (
        f"There is no prebuilt engine for {where}{'' if sys.maxsize > 1 << 32 else ', 32 bits'}, only for Linux and "
        f"macOS on x86-64 and ARM64, and for Windows on x86-64, with a Python of 64 bits. Build it: {_SOURCE}"
    )

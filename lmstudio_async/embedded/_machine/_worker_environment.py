"""The environment variables that worker processes get.

A worker parses untrusted files with native code. It does not need the tokens and passwords in the environment of the
server, so it gets only the variables that are listed here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

__all__ = ["MORE_VARIABLES", "worker_environment"]

#: Variable with the names of further variables for workers, separated by commas or white space.
MORE_VARIABLES: Final = "LMSTUDIO_WORKER_ENV"

_NAMES: Final = frozenset(
    """
    PATH HOME USER LOGNAME SHELL PWD LANG LANGUAGE TZ TMPDIR TEMP TMP XDG_CACHE_HOME XDG_CONFIG_HOME XDG_DATA_HOME
    XDG_DATA_DIRS XDG_RUNTIME_DIR VIRTUAL_ENV CONDA_PREFIX CONDA_DEFAULT_ENV NIX_LD NIX_LD_LIBRARY_PATH
    LIBRARY_PATH DRI_PRIME OCL_ICD_VENDORS OCL_ICD_FILENAMES COVERAGE_PROCESS_START COVERAGE_PROCESS_CONFIG
    COVERAGE_FILE __CF_USER_TEXT_ENCODING __PYVENV_LAUNCHER__
    SYSTEMROOT SYSTEMDRIVE WINDIR COMSPEC PATHEXT USERNAME USERPROFILE HOMEDRIVE HOMEPATH APPDATA LOCALAPPDATA
    PROGRAMDATA PROGRAMFILES PROGRAMFILES(X86) PROGRAMW6432 COMMONPROGRAMFILES NUMBER_OF_PROCESSORS OS
    """.split()  # noqa: SIM905 - quotes around each would hide the names
)
_PREFIXES: Final = (
    # The locale, the dynamic linkers, Python.
    *("LC_", "LD_", "DYLD_", "PYTHON", "MALLOC_", "GLIBC_"),
    # GPUs and their drivers.
    *("CUDA_", "NVIDIA_", "NCCL_", "HIP_", "ROCR_", "ROCM_", "HSA_", "AMD_", "GPU_", "VK_", "MESA_", "RADV_"),
    *("ONEAPI_", "SYCL_", "ZE_", "ZES_", "UR_", "INTEL_", "MTL_", "METAL_", "MUSA_", "ASCEND_"),
    # The engine and its threads.
    *("GGML_", "LLAMA_", "OMP_", "KMP_", "GOMP_", "MKL_", "OPENBLAS_", "BLIS_", "VECLIB_"),
    "PROCESSOR_",
)
# The prefixes match unknown names, which may hold secrets.
_SECRET: Final = re.compile("TOKEN|SECRET|KEY|PASS|CREDENTIAL|AUTH|PROXY")


def worker_environment(own: Mapping[str, str]) -> dict[str, str]:
    """Return the environment variables of this process that a worker gets.

    :param own: the environment of this process, such as ``os.environ``.
    :return: the variables that the interpreter, the engine and GPU drivers use, and those that are named in
        ``LMSTUDIO_WORKER_ENV``.
    """
    more = frozenset(re.split(r"[\s,]+", own.get(MORE_VARIABLES, "")))
    return {name: value for name, value in own.items() if name in more or _is_harmless(name)}


def _is_harmless(name: str) -> bool:
    # Names are upper case on Windows too: Windows ignores their case, and Python converts them.
    return name in _NAMES or (name.startswith(_PREFIXES) and not _SECRET.search(name))

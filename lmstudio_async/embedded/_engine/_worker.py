"""The worker process, which holds one loaded model: ``python _worker.py``, with its instructions on standard input.

Only this file loads models with ``xllamacpp``. The parser of the worker's output (:func:`read_event`) is in it too, so
that a change of the engine's Python interface changes no other file. It imports nothing of the package, so that a
worker starts as fast as Python and the engine do.

The worker reads one JSON line: the fields of ``EngineSpec``, and others that ``worker_instructions`` adds, such as the
API key of the engine's server. It writes lines to standard output: its own JSON events, and between them the engine's
reports, which are meant for a llama.cpp router. The engine holds the GIL for the whole load, so that Python code cannot
run in that time: the engine itself writes its progress to the pipe, and the kernel ends the process when its standard
input is closed.
"""

from __future__ import annotations

import io
import json
import math
import os
import re
import select
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, NoReturn

__all__ = ["Failed", "Loading", "ReadAhead", "Ready", "WorkerEvent", "model_files", "read_event"]


# --- events for the parent process; NamedTuple, because importing attrs would slow down the start of every worker ---


class ReadAhead(NamedTuple):
    """The worker has read this share of the model's files, 0 to 1."""

    fraction: float


class Loading(NamedTuple):
    """The engine has loaded this share of one of its stages, such as the text model or the projector."""

    stage: int
    stages: int
    fraction: float


class Ready(NamedTuple):
    """The engine is listening at ``http://<host>:<port>``. ``gpu``: whether it has a GPU."""

    address: str
    gpu: bool = False


class Failed(NamedTuple):
    """The model could not be loaded. The engine's own reason, if it has one, is on standard error."""

    reason: str
    missing_engine: bool = False


WorkerEvent = ReadAhead | Loading | Ready | Failed

_ENGINE_LINE = "cmd_child_to_router:state:"
_SPLIT_FILE = re.compile(r"^(?P<stem>.+)-00001-of-(?P<count>\d{5})\.gguf$", re.IGNORECASE)


def read_event(line: str) -> WorkerEvent | None:
    """Return the event in a line of a worker's standard output, or None if the line is not an event."""
    line = line.strip()
    try:
        if line.startswith(_ENGINE_LINE):
            return _read_engine_state(json.loads(line.removeprefix(_ENGINE_LINE)))
        match json.loads(line):
            case {"event": "read", "value": float() | int() as value}:
                return ReadAhead(_clamp(value))
            case {"event": "ready", "address": str() as address, "gpu": bool() as gpu}:
                return Ready(address, gpu)
            case {"event": "failed", "reason": str() as reason}:
                return Failed(reason)
            case {"event": "missing", "reason": str() as reason}:
                return Failed(reason, missing_engine=True)
    except ValueError:
        return None
    return None


def _read_engine_state(state: object) -> Loading | None:
    match state:
        case {
            "state": "loading",
            "payload": {"stages": [*stages], "current": current, "value": float() | int() as value},
        } if current in stages:
            return Loading(stages.index(current), len(stages), _clamp(value))
    return None


def _clamp(value: float) -> float:
    return min(max(float(value), 0.0), 1.0) if math.isfinite(value) else 0.0


def model_files(model_path: str) -> list[str]:
    """Return the paths of all parts of a model that is split into ``…-00001-of-0000N.gguf``, or its only file."""
    folder, name = os.path.split(model_path)
    found = _SPLIT_FILE.match(name)
    if found is None:
        return [model_path]
    count = int(found["count"])
    return [
        os.path.join(folder, f"{found['stem']}-{part:05}-of-{count:05}.gguf") for part in range(1, count + 1)
    ]


# --- the process ----------------------------------------------------------------------------------------------------


def main() -> NoReturn:
    """Load the model in the first line of standard input, and serve it until standard input is closed."""
    line = _read_line()
    if not line:
        os._exit(0)
    spec: dict[str, Any] = json.loads(line)
    lifeline = _take_stdin()
    _leave_when_closed(lifeline, at_once=True)
    # Duplicate the pipe to the parent, because the engine redirects descriptor 1 to standard error.
    pipe = os.dup(1)

    def tell(event: str, **values: object) -> None:
        os.write(pipe, json.dumps({"event": event, **values}).encode() + b"\n")

    try:
        import xllamacpp  # type: ignore[import-untyped, unused-ignore]
    except Exception as error:  # noqa: BLE001 - a wheel that does not fit raises more than ImportError
        tell("missing", reason=f"the engine (the package xllamacpp) cannot be imported: {error}")
        os._exit(1)
    try:
        params = _engine_params(xllamacpp, spec)
        files = [part for file in _all_paths(spec) for part in model_files(file)]
        _share(files)
        if spec["read_ahead_bytes"]:
            _read_ahead(files, spec["read_ahead_bytes"], lambda fraction: tell("read", value=fraction))
        server = xllamacpp.Server(params)
    except Exception as error:  # noqa: BLE001 - any error is reported to the parent
        tell("failed", reason=str(error))
        _write_engine_log(xllamacpp)
        sys.exit(1)
    # The engine has released the GIL, so that from here on Python code can end the process.
    _leave_when_closed(lifeline, at_once=False)
    tell("ready", address=server.listening_address, gpu=_has_gpu(xllamacpp))
    _wait_for_parent(lifeline, spec["parent_pid"])
    # Exit without clean-up: the kernel releases all memory at once, and freeing a big model first would take time.
    os._exit(0)


def _read_line() -> bytes:
    # Do not use sys.stdin, because a buffered reader may read more than the line.
    line = bytearray()
    while not line.endswith(b"\n"):
        chunk = os.read(0, 65536)
        if not chunk:
            return b""
        line += chunk
    return bytes(line)


def _has_gpu(engine: Any) -> bool:
    types = engine.ggml_backend_dev_type
    gpus = (types.GGML_BACKEND_DEVICE_TYPE_GPU, types.GGML_BACKEND_DEVICE_TYPE_IGPU)
    return any(device["type"] in gpus for device in engine.get_device_info())


def _write_engine_log(engine: Any) -> None:
    """Flush the engine's log, because the reasons for a failure are still in the queue of its writer thread."""
    import ctypes

    try:
        library = ctypes.CDLL(engine.xllamacpp.__file__)
        library._Z15common_log_mainv.restype = ctypes.c_void_p
        library._Z16common_log_pauseP10common_log(ctypes.c_void_p(library._Z15common_log_mainv()))
    except (OSError, AttributeError):
        # Another compiler mangles these names differently. Then the normal exit of the process usually leaves the
        # thread enough time.
        return


def _take_stdin() -> int:
    """Move standard input to another descriptor, because the engine ends the process when descriptor 0 is closed."""
    lifeline = os.dup(0)
    read_end, _ = os.pipe()
    os.dup2(read_end, 0)
    return lifeline


def _leave_when_closed(lifeline: int, *, at_once: bool) -> None:
    """Set whether the kernel ends this process as soon as the parent closes the pipe or ends.

    On Linux the kernel always kills the process then, because a stopped process cannot run its own code.

    PR_SET_PDEATHSIG is no alternative: the kernel sends it when the *thread* that started the process ends, and trio
    starts processes in threads that end after ten idle seconds.

    :param lifeline: the descriptor of the pipe.
    :param at_once: true during the load; false to let the process end itself, except on Linux.
    """
    if sys.platform == "win32":
        return
    import fcntl

    flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
    if sys.platform == "linux":
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
    elif at_once:
        _exit_on(signal.SIGIO)
    else:
        fcntl.fcntl(lifeline, fcntl.F_SETFL, flags & ~os.O_ASYNC)
        return
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)
    if select.select([lifeline], [], [], 0)[0]:
        os._exit(0)


def _exit_on(number: signal.Signals) -> None:
    import ctypes

    libc = ctypes.CDLL(None)
    libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
    libc.signal.restype = ctypes.c_void_p
    # Use a C function as the handler, because a Python handler waits for the GIL, and so for the end of the load.
    libc.signal(number, ctypes.cast(libc._exit, ctypes.c_void_p))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [number])


def _wait_for_parent(lifeline: int, parent_pid: int) -> None:
    if sys.platform == "win32":
        while os.read(lifeline, 65536):
            pass
        return
    # Check the parent too: a fork of the parent may keep the other end of the pipe open after the parent has ended.
    while os.getppid() == parent_pid and not select.select([lifeline], [], [], 5.0)[0]:
        pass


def _all_paths(spec: Mapping[str, Any]) -> list[str]:
    paths = (spec["model_path"], spec["projector_path"], spec["draft_model_path"])
    return [path for path in paths if path is not None]


def _share(files: Sequence[str]) -> None:
    """Lock files as shared until the process ends, so that no server deletes a model that another one has loaded."""
    if sys.platform == "win32":
        # Windows deletes no file that is open.
        return
    import fcntl

    for file in files:
        try:
            fcntl.flock(os.open(file, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            # The file system has no locks. If the file cannot be read, the engine explains it.
            continue


def _read_ahead(files: Sequence[str], most_bytes: int, report: Callable[[float], None]) -> None:
    """Read the files into the page cache and report progress, unless they are too large for the cache.

    A memory-mapped load reports nothing between its beginning and its end, and most of its time is spent reading the
    file. Reading the file ahead makes the progress visible.
    """
    try:
        total = sum(os.path.getsize(file) for file in files)
        if not 0 < total <= most_bytes:
            return
        buffer = memoryview(bytearray(min(max(total // 256, 1 << 20), 1 << 26)))
        done = 0
        for file in files:
            with open(file, "rb", buffering=0) as source, open(os.devnull, "wb", buffering=0) as nowhere:
                while count := _read_next(source, nowhere, buffer):
                    done += count
                    report(min(done / total, 1.0))
    except OSError:
        # Ignore the error, because the engine reports it better when it opens the file.
        return


def _read_next(source: io.FileIO, nowhere: io.FileIO, buffer: memoryview) -> int:
    """Read the next bytes of a file, at most the size of the buffer, and return their number."""
    if sys.platform == "linux":
        # The kernel discards the bytes without copying them, which would be all the work for a file in the cache.
        return os.sendfile(nowhere.fileno(), source.fileno(), None, len(buffer))
    return source.readinto(buffer)


def _engine_params(engine: Any, spec: Mapping[str, Any]) -> Any:
    """Return the engine's own parameters for an `EngineSpec`."""
    params = engine.CommonParams()
    params.model.path = spec["model_path"]
    # Other users of this machine can connect to this port, so the engine's server requires a key.
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.api_keys = [spec["api_key"]]
    params.ui = False
    params.endpoint_slots = False
    # 2 means warnings and errors. A higher level writes lines for every request.
    params.verbosity = 4 if spec["verbose"] else 2
    params.warmup = False
    params.fit_params = False  # it would silently change the requested settings
    params.cache_ram_mib = 0  # the default is a prompt cache of 8 GiB
    params.cache_idle_slots = False
    for cpu in (params.cpuparams, params.cpuparams_batch):
        cpu.n_threads = spec["threads"]
    _set_context(engine, params, spec)
    _set_memory(engine, params, spec)
    _set_gpu(engine, params, spec)
    if spec["seed"] is not None:
        params.sampling.seed = spec["seed"]
    if spec["chat_template"] is not None:
        params.chat_template = spec["chat_template"]
    if spec["projector_path"] is not None:
        params.mmproj.path = spec["projector_path"]
        params.mmproj_use_gpu = spec["gpu_layers"] != 0
    if spec["draft_model_path"] is not None:
        _set_draft(engine, params, spec)
    return params


def _set_context(engine: Any, params: Any, spec: Mapping[str, Any]) -> None:
    params.n_parallel = spec["parallel_sessions"]
    params.kv_unified = spec["unified_kv_cache"]
    # Without the unified cache the engine divides the context among its slots: multiply it, so that each has all of it.
    shares = 1 if spec["unified_kv_cache"] else spec["parallel_sessions"]
    params.n_ctx = spec["context_length"] * shares
    params.n_batch = spec["eval_batch_size"]
    params.n_ubatch = min(spec["physical_batch_size"] or spec["eval_batch_size"], spec["eval_batch_size"])
    if spec["kind"] == "embedding":
        params.embedding = True
        if spec["pooling"] is not None:
            params.pooling_type = engine.llama_pooling_type[f"LLAMA_POOLING_TYPE_{spec['pooling'].upper()}"]
        # A text must fit into one batch: an embedding cannot be continued in the next one.
        params.n_batch = params.n_ubatch = max(spec["context_length"], spec["eval_batch_size"])
    if spec["context_checkpoints"] is not None:
        params.n_ctx_checkpoints = spec["context_checkpoints"]
    if spec["rope_frequency_base"] is not None:
        params.rope_freq_base = spec["rope_frequency_base"]
    if spec["rope_frequency_scale"] is not None:
        params.rope_freq_scale = spec["rope_frequency_scale"]
    if spec["rope_extension"] is not None:
        extension = spec["rope_extension"]
        params.rope_scaling_type = engine.llama_rope_scaling_type.LLAMA_ROPE_SCALING_TYPE_YARN
        params.rope_freq_scale = extension["scale"]
        params.yarn_orig_ctx = extension["yarn_original_context_length"]
        params.yarn_ext_factor = extension["yarn_extrapolation"]


def _set_memory(engine: Any, params: Any, spec: Mapping[str, Any]) -> None:
    modes = engine.llama_load_mode
    if spec["direct_io"]:
        params.load_mode = modes.LLAMA_LOAD_MODE_DIRECT_IO
    elif spec["mmap"]:
        params.load_mode = modes.LLAMA_LOAD_MODE_MMAP_MLOCK if spec["mlock"] else modes.LLAMA_LOAD_MODE_MMAP
    else:
        params.load_mode = modes.LLAMA_LOAD_MODE_MLOCK if spec["mlock"] else modes.LLAMA_LOAD_MODE_NONE
    types = engine.ggml_type
    params.cache_type_k = types[f"GGML_TYPE_{spec['k_cache_type'].upper()}"]
    params.cache_type_v = types[f"GGML_TYPE_{spec['v_cache_type'].upper()}"]
    flash = engine.llama_flash_attn_type
    params.flash_attn_type = {
        "auto": flash.LLAMA_FLASH_ATTN_TYPE_AUTO,
        "on": flash.LLAMA_FLASH_ATTN_TYPE_ENABLED,
        "off": flash.LLAMA_FLASH_ATTN_TYPE_DISABLED,
    }[spec["flash_attention"]]
    params.no_kv_offload = not spec["offload_kv_cache"]


def _set_gpu(engine: Any, params: Any, spec: Mapping[str, Any]) -> None:
    params.n_gpu_layers = spec["gpu_layers"]
    params.main_gpu = spec["main_gpu"]
    params.split_mode = engine.llama_split_mode[f"LLAMA_SPLIT_MODE_{spec['split_mode'].upper()}"]
    if spec["tensor_split"]:
        room = len(params.tensor_split)
        shares = list(spec["tensor_split"])
        params.tensor_split = [*shares, *[0.0] * (room - len(shares))]


def _set_draft(engine: Any, params: Any, spec: Mapping[str, Any]) -> None:
    draft = params.speculative.draft
    params.speculative.types = [engine.common_speculative_type.COMMON_SPECULATIVE_TYPE_DRAFT_SIMPLE]
    draft.mparams.path = spec["draft_model_path"]
    draft.n_max = spec["draft_max_tokens"]
    draft.n_min = spec["draft_min_tokens"]
    draft.p_min = spec["draft_min_probability"]
    draft.n_gpu_layers = spec["gpu_layers"]
    for cpu in (draft.cpuparams, draft.cpuparams_batch):
        cpu.n_threads = spec["threads"]


if __name__ == "__main__":
    main()

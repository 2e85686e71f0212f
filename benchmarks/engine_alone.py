"""The engine alone: ``python engine_alone.py WORKER.py INSTRUCTIONS``. It prints its address.

The worker's own function makes its parameters. Nothing else of the package is imported.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import time


def main(worker_file: str, instructions: str) -> None:
    """Load the model, and serve it until standard input is closed."""
    spec = importlib.util.spec_from_file_location("worker", worker_file)
    assert spec is not None and spec.loader is not None
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    began = time.perf_counter()
    import xllamacpp

    server = xllamacpp.Server(worker._engine_params(xllamacpp, json.loads(instructions)))
    print(json.dumps({"address": server.listening_address, "load": time.perf_counter() - began}), flush=True)
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])

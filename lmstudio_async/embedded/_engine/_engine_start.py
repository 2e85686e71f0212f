"""The start of an engine, with a fallback to one without the vision projector."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from lmstudio_async.embedded._engine._engine import Engine, EngineFailure
from lmstudio_async.embedded._engine._engine_spec import EngineSpec
from lmstudio_async.embedded._engine._pulse import Pulse

__all__ = ["start_engine"]


async def start_engine(
    spec: EngineSpec, on_progress: Callable[[float], None], pulse: Pulse
) -> tuple[Engine, int, str]:
    """Start an engine; if that fails with the vision projector, start it without.

    The server uses any projector that it finds in the model's folder. A projector of another model, or one that does
    not fit into memory, must not make the text model unusable.

    :param on_progress: receives fractions from 0 on that never decrease, and 1 when the engine answers requests.
    :param pulse: monitors both starts.
    :return: the engine, the number of tokens that one of its sessions can hold, and the reason why it has no projector:
        empty if it has one, or if ``spec`` has none.
    :raises EngineFailure: the engine does not start without the projector either.
    """
    reached = -1.0

    def report(fraction: float) -> None:
        nonlocal reached
        if fraction > reached:
            reached = fraction
            on_progress(fraction)

    reason = ""
    try:
        engine = await Engine.start(spec, report, pulse)
    except EngineFailure as failure:
        if spec.projector_path is None or failure.missing_engine:
            raise
        reason = failure.reason.rstrip(".")
        engine = await Engine.start(attrs.evolve(spec, projector_path=None), report, pulse)
    try:
        return engine, await _context_length(engine), reason
    except BaseException:
        await engine.aclose()
        raise


async def _context_length(engine: Engine) -> int:
    """Return the number of tokens that a session can hold, because the engine rounds the requested one."""
    if engine.spec.kind == "embedding":
        # Tokens that were added by rounding up are unusable: a text has to fit into a batch, which is not rounded.
        return engine.spec.context_length
    return int((await engine.properties())["default_generation_settings"]["n_ctx"])

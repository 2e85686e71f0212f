"""The start of an engine for a model that should see, and can do without."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from lmstudio_async.embedded._engine import Engine, EngineFailure
from lmstudio_async.embedded._engine_spec import EngineSpec
from lmstudio_async.embedded._pulse import Pulse

__all__ = ["start_engine"]


async def start_engine(
    spec: EngineSpec, on_progress: Callable[[float], None], pulse: Pulse
) -> tuple[Engine, int, str]:
    """Start an engine, without its vision projector if it does not start with it.

    A projector is taken from the model's folder because it is there. One of another model, or one that has no room,
    must not keep the text model from being used.

    :param on_progress: gets fractions from 0 on that never fall, and 1 when the engine answers.
    :param pulse: watches both starts.
    :return: the engine, the tokens that a session of it has, and the reason why it has no projector: empty if it has
        one or was to have none.
    :raises EngineFailure: it does not start without the projector either.
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
    """The tokens that a session really has: the engine rounds the number that it is given."""
    if engine.spec.kind == "embedding":
        # The tokens that it rounds up are of no use: a text has to fit into a batch, which is as long as asked for.
        return engine.spec.context_length
    return int((await engine.properties())["default_generation_settings"]["n_ctx"])

"""How a model tells the positions of tokens apart, as far as that decides how long its context can be."""

from __future__ import annotations

import math
from typing import Final

import attrs

from lmstudio_async.embedded._gguf import GgufHeader

__all__ = ["CannotExtend", "Rope", "RopeExtension"]

# By less than this the engine, which reckons with 32 bits, would not see a difference between two scales.
_LEAST_DIFFERENCE: Final = 2**-23


class CannotExtend(Exception):
    """The context cannot be longer than the file says. The text tells the user what would extend it, if anything does."""


@attrs.frozen
class RopeExtension:
    """The parameters for a context that is longer than the file says.

    The engine cuts each session to the context that the file says, unless positions are scaled by YaRN and with another
    scale than the file's. YaRN without its extrapolation is the plain scaling that other models have.
    """

    scale: float
    yarn_original_context_length: int
    """The engine makes its limit of it, divided by the scale. 0 is that of the file."""
    yarn_extrapolation: float
    """0 is none, and below 0 is that of the file."""


@attrs.frozen
class Rope:
    """The rotary position embeddings of a model."""

    scaling: str
    """The way in which the file has positions scaled, such as ``linear`` or ``yarn``; empty if it does not say."""
    scale: float
    """The factor of each position: 0.25 if the model was trained on to four times its first context."""
    context_length: int
    """The tokens that the model was made for."""
    original_context_length: int
    """The tokens that it was trained on before its positions were scaled."""
    has_position_table: bool
    """Whether the model has a learned vector for each position instead."""

    @classmethod
    def read(cls, header: GgufHeader, context_length: int) -> Rope:
        """Read what a file says.

        :param context_length: what the file says, which is also the original one unless it names another.
        """
        prefix = f"{header.architecture}.rope.scaling."
        factor = header.metadata.get(prefix + "factor")
        return cls(
            scaling=header.text(prefix + "type") or "",
            scale=1 / factor if isinstance(factor, float) and factor > 0 else 1.0,
            context_length=context_length,
            original_context_length=header.number(prefix + "original_context_length") or context_length,
            has_position_table=header.has_position_table,
        )

    def extend(self, context_length: int, *, scale: float | None, base: float | None) -> RopeExtension:
        """Return what lets the engine load a context that is longer than the file says.

        :param scale: the one that the user asks for, None if none.
        :param base: the base frequency that the user asks for.
        :raises CannotExtend: it cannot be.
        """
        if self.has_position_table:
            raise CannotExtend("It cannot be extended: it has learned one vector for each position.")
        wanted = scale or self.scale
        if abs(wanted - self.scale) <= self.scale * _LEAST_DIFFERENCE:
            wanted = self.scale * (1 - _LEAST_DIFFERENCE)
        if self.scaling == "yarn":
            if scale is None or context_length * wanted > self.original_context_length:
                raise CannotExtend(
                    "Its positions are scaled by YaRN: to extend it, set ropeFrequencyScale to "
                    f"{_floor(self.original_context_length / context_length)} or less."
                )
            return RopeExtension(wanted, 0, -1.0)
        if scale is None and base is None:
            raise CannotExtend(
                "To extend it, set ropeFrequencyScale or ropeFrequencyBase: ropeFrequencyScale "
                f"{_floor(self.scale * self.context_length / context_length)} fits all positions into those it knows."
            )
        return RopeExtension(wanted, int(context_length * wanted) + 1, 0.0)


def _floor(scale: float) -> float:
    """Round down to three digits, so that a scale that a message names is small enough."""
    unit = math.pow(10, 2 - math.floor(math.log10(scale)))
    return math.floor(scale * unit) / unit

"""Position encoding of a model (RoPE), as far as it limits the length of the context."""

from __future__ import annotations

import math
from typing import Final

import attrs

from lmstudio_async.embedded._catalog._gguf import GgufHeader

__all__ = ["CannotExtend", "Rope", "RopeExtension"]

# The smallest relative difference between two scales that the engine, which uses 32-bit floats, can represent.
_LEAST_DIFFERENCE: Final = 2**-23


class CannotExtend(Exception):
    """The context cannot be longer than the file says. The text names the settings that would extend it, if any."""


@attrs.frozen
class RopeExtension:
    """The parameters for a context that is longer than the file says.

    The engine limits each session to the context length in the file, unless positions are scaled by YaRN with a scale
    that differs from the one in the file. YaRN without extrapolation is the same as the linear scaling of other models.
    """

    scale: float
    yarn_original_context_length: int
    """The engine divides it by the scale to get its limit. 0 means the value in the file."""
    yarn_extrapolation: float
    """0 means no extrapolation, and a negative number means the value in the file."""


@attrs.frozen
class Rope:
    """The rotary position embeddings of a model."""

    scaling: str
    """The scaling of positions in the file, such as ``linear`` or ``yarn``; empty if the file has none."""
    scale: float
    """The factor for each position: 0.25 if training extended the model to four times its original context."""
    context_length: int
    """The context length of the model, in tokens."""
    original_context_length: int
    """The context length of the model before its positions were scaled, in tokens."""
    has_position_table: bool
    """Whether the model has a learned vector for each position, and not rotary embeddings."""

    @classmethod
    def read(cls, header: GgufHeader, context_length: int) -> Rope:
        """Read the parameters from the header of a file.

        :param header: the header of the file.
        :param context_length: the context length in the file. It is also the original one, unless the file has another.
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
        """Return the parameters that make the engine load a context that is longer than the file says.

        :param context_length: the requested context length.
        :param scale: the requested scale, or None.
        :param base: the requested base frequency, or None.
        :raises CannotExtend: the context cannot be extended with these settings.
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
    """Round down to three digits, so that the scale in a message is small enough."""
    unit = math.pow(10, 2 - math.floor(math.log10(scale)))
    return math.floor(scale * unit) / unit

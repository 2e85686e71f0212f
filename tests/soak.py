"""How many examples a property is tried with: a few among the other tests, thousands in a soak."""

from __future__ import annotations

from hypothesis import settings

__all__ = ["examples"]


def examples(usual: int) -> int:
    """What is usual, unless a profile such as ``--hypothesis-profile=soak`` asks for more than Hypothesis itself."""
    profile = settings().max_examples
    return profile if profile > 100 else usual

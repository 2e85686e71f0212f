"""How much of a property test the suite runs, and how much a soak."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

__all__ = ["bounded"]


def bounded(examples: int) -> settings:
    """The same few examples each time; with ``--hypothesis-profile=soak`` as many as that says, and others each time."""
    soaks = settings.get_current_profile_name() == "soak"
    return settings(
        max_examples=settings().max_examples if soaks else examples,
        deadline=None,
        derandomize=not soaks,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
    )

"""How much of a property test the suite runs, and how much a soak: ``pytest --hypothesis-profile=soak``."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

__all__ = ["bounded", "register_profiles"]

_SOAK = "soak"


def register_profiles() -> None:
    """Tell what a run is like: with the same examples each time, unless it is a soak, which has many and others.

    In neither does it count how fast the machine is.
    """
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    settings.register_profile("suite", deadline=None, derandomize=True, suppress_health_check=checks)
    settings.register_profile(
        _SOAK, max_examples=5000, deadline=None, suppress_health_check=checks, print_blob=True
    )
    settings.load_profile("suite")


def bounded(examples: int) -> settings:
    """So many examples where a hundred would take too long; in a soak as many as in all tests there."""
    return settings() if settings.get_current_profile_name() == _SOAK else settings(max_examples=examples)

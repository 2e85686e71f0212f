"""Numbers of examples of property tests: few in the suite, many in a soak (``pytest --hypothesis-profile=soak``)."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

__all__ = ["bounded", "register_profiles"]

_SOAK = "soak"


def register_profiles() -> None:
    """Register the profiles: the suite has the same examples each time, a soak has many random ones.

    Neither has a deadline, so that the speed of the machine does not matter.
    """
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
    settings.register_profile("suite", deadline=None, derandomize=True, suppress_health_check=checks)
    settings.register_profile(
        _SOAK, max_examples=5000, deadline=None, suppress_health_check=checks, print_blob=True
    )
    settings.load_profile("suite")


def bounded(examples: int) -> settings:
    """Return settings for a slow test, which limit its number of examples in the suite, but not in a soak."""
    return settings() if settings.get_current_profile_name() == _SOAK else settings(max_examples=examples)

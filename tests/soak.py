"""How much of a property test the suite runs, and how much a soak: ``pytest --hypothesis-profile=soak``."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

__all__ = ["bounded", "register_profile"]

_PROFILE = "soak"


def register_profile() -> None:
    """Make the profile known. Each soak is a different one."""
    settings.register_profile(
        _PROFILE,
        max_examples=5000,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        print_blob=True,
    )


def bounded(examples: int) -> settings:
    """The same few examples each time; in a soak as many as its profile says, and others each time."""
    soaks = settings.get_current_profile_name() == _PROFILE
    return settings(
        max_examples=settings().max_examples if soaks else examples,
        deadline=None,
        derandomize=not soaks,
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.function_scoped_fixture,
        ],
    )

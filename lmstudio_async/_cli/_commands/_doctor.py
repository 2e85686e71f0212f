"""Stub."""


def command() -> None:
    """Stub."""

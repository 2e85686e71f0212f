"""API tokens in a file."""

from __future__ import annotations

from pathlib import Path

from lmstudio_async.errors import LMStudioValueError

__all__ = ["tokens_in"]


def tokens_in(file: str | Path) -> list[str]:
    """Return the API tokens in a file, one per line.

    :param file: its path; empty lines and lines that begin with ``#`` are ignored.
    :raises LMStudioValueError: if the file cannot be read, or has no token, because a server without tokens would accept
        every client.
    """
    try:
        lines = [line.strip() for line in Path(file).read_text("utf-8").splitlines()]
    except OSError as error:
        raise LMStudioValueError(
            f"The token file {file} cannot be read: {error.strerror or error}"
        ) from error
    except UnicodeDecodeError:
        raise LMStudioValueError(f"{file} is not a text file, so it has no API tokens") from None
    tokens = [line for line in lines if line and not line.startswith("#")]
    if not tokens:
        raise LMStudioValueError(f"There is no API token in {file}: write one on a line of its own")
    return tokens

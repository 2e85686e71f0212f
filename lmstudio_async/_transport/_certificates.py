"""Whom a client trusts when it speaks TLS, and what it needs when it does not."""

from __future__ import annotations

import ssl
from pathlib import Path

from lmstudio_async.errors import LMStudioValueError

__all__ = ["no_certificates", "read_certificates"]


def no_certificates() -> ssl.SSLContext:
    """Give what a client needs that never speaks TLS: loading the certificates would take longer than connecting.

    It trusts nobody: were it used for TLS after all, the handshake would fail.
    """
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def read_certificates(path: str) -> ssl.SSLContext:
    """Trust the certificates in a file or a directory.

    :raises LMStudioValueError: if there are none that can be read.
    """
    try:
        if Path(path).is_dir():
            return ssl.create_default_context(capath=path)
        return ssl.create_default_context(cafile=path)
    except (OSError, ValueError) as exc:
        raise LMStudioValueError(
            f"verify={path!r} holds no certificates that can be read ({exc}). Give the path of a PEM file or of a "
            "directory of certificates, or an ssl.SSLContext."
        ) from exc

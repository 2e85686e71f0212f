"""TLS contexts: with the certificates that a client trusts, and without any for a client that does not use TLS."""

from __future__ import annotations

import ssl
from pathlib import Path

from lmstudio_async.errors import LMStudioValueError

__all__ = ["no_certificates", "read_certificates"]


def no_certificates() -> ssl.SSLContext:
    """Return a context for a client that never uses TLS, because loading certificates takes longer than connecting.

    The context trusts no certificate: if it were used for TLS after all, the handshake would fail.
    """
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def read_certificates(path: str) -> ssl.SSLContext:
    """Return a context that trusts the certificates in a file or a directory.

    :raises LMStudioValueError: if the path has no certificates that can be read.
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

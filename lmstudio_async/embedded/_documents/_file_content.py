"""The content of an uploaded file: its decoding, and the detection of its type."""

from __future__ import annotations

import base64
import binascii

__all__ = ["decode", "sniff"]

#: Beginning of the file, type in the protocol, MIME type.
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image", "image/png"),
    (b"\xff\xd8\xff", "image", "image/jpeg"),
    (b"RIFF", "image", "image/webp"),
    (b"%PDF-", "application/pdf", "application/pdf"),
)


def decode(content: str) -> bytes:
    """Decode base64.

    :raises ValueError: if the text is not valid base64.
    """
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(str(error)) from error


def sniff(content: bytes) -> tuple[str, str]:
    """Detect the type of a file by its content; return the protocol's type and the MIME type."""
    for magic, file_type, mime_type in _MAGIC:
        if content.startswith(magic) and (magic != b"RIFF" or content[8:12] == b"WEBP"):
            return file_type, mime_type
    try:
        content.decode()
    except UnicodeDecodeError:
        return "unknown", "application/octet-stream"
    return "text/plain", "text/plain"

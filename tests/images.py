"""Images for vision models."""

from __future__ import annotations

import struct
import zlib

__all__ = ["png"]


def png(red: int, green: int, blue: int, *, width: int = 32, height: int = 32) -> bytes:
    """Return a PNG image of one colour."""
    rows = (b"\0" + bytes([red, green, blue]) * width) * height

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )

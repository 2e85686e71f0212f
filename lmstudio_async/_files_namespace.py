"""The namespace ``files``: uploads of files for chat messages."""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

import anyio.to_thread

from lmstudio_async._arguments import check_name
from lmstudio_async._preload import preload
from lmstudio_async._protocol._endpoints.files import UPLOAD_FILE_BASE64
from lmstudio_async._session import Session
from lmstudio_async.errors import LMStudioOSError, LMStudioValueError

if TYPE_CHECKING:
    from lmstudio_async._wire._history import FileHandle

__all__ = ["AsyncFilesNamespace", "LocalFileInput"]

LocalFileInput: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO
"""A path, the content as bytes, or an open binary file."""


class AsyncFilesNamespace:
    """Uploads of files for messages: `AsyncClient.files`."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def __repr__(self) -> str:
        return f"{type(self).__name__}(api_host={self._session.address!r})"

    async def prepare_image(self, src: LocalFileInput, name: str | None = None) -> FileHandle:
        """Upload an image for a message to a vision model: JPEG or PNG; LM Studio also accepts WebP.

        :param src: a path, the content as bytes, or an open binary file, which is read from its current position.
        :param name: name of the file; None for the file's own name, or a random one for bytes.
        :return: the handle, for `Chat.add_user_message`. Only this client can use it.
        :raises LMStudioOSError: if the file cannot be read.
        :raises LMStudioValueError: if an argument makes no sense, or the file is empty.

        ::

            llm = await client.llm.model("qwen2-vl-2b-instruct")
            image = await client.prepare_image("cat.png")
            chat = Chat()
            chat.add_user_message("What is this?", images=[image])
            print(await llm.respond(chat))
        """
        return await self._upload(src, name)

    async def prepare_file(self, src: LocalFileInput, name: str | None = None) -> FileHandle:
        """Upload a file of any kind.

        :param src: a path, the content as bytes, or an open binary file, which is read from its current position.
        :param name: name of the file; None for the file's own name, or a random one for bytes.
        :return: the handle. Only this client can use it.
        :raises LMStudioOSError: if the file cannot be read.
        :raises LMStudioValueError: if an argument makes no sense, or the file is empty.
        """
        return await self._upload(src, name)

    async def _upload(self, src: LocalFileInput, name: str | None) -> FileHandle:
        read, own_name = _reader(src)
        name = own_name if name is None else check_name(name, "name")
        try:
            encoded = await anyio.to_thread.run_sync(_encode, read, abandon_on_cancel=True)
        except OSError as error:
            raise LMStudioOSError(
                error.errno, error.strerror or str(error), error.filename or name
            ) from error
        if not encoded:
            raise LMStudioValueError(f"{name} is empty")
        await preload("_wire._files", "_wire._history")
        from lmstudio_async._wire._files import UploadFileBase64Parameter
        from lmstudio_async._wire._history import FileHandle

        parameter = UploadFileBase64Parameter(name=name, content_base64=encoded)
        info = await self._session.call(UPLOAD_FILE_BASE64, parameter)
        return FileHandle(
            name=name,
            identifier=info.identifier,
            size_bytes=info.size_bytes,
            file_type=info.file_type,
            extra=info.extra,
        )


def _reader(src: Any) -> tuple[Callable[[], Any], str]:
    """Return a function that reads the content (in a worker thread), and the name of the file."""
    if isinstance(src, (str, os.PathLike)):
        path = Path(src)
        return path.read_bytes, path.name
    if callable(getattr(src, "read", None)):
        name = getattr(src, "name", None)
        return src.read, Path(name).name if isinstance(name, str) and name else str(uuid.uuid4())
    try:
        content = bytes(memoryview(src))
    except TypeError as error:
        raise LMStudioValueError(
            f"a file is given as a path, as bytes, or as an open binary file, not as {src!r:.80}"
        ) from error
    return lambda: content, str(uuid.uuid4())


def _encode(read: Callable[[], Any]) -> str:
    try:
        content = read()
    except ValueError as error:
        raise LMStudioValueError(f"the file cannot be read: {error}") from error
    if not isinstance(content, (bytes, bytearray, memoryview)):
        raise LMStudioValueError("the file is open for reading text: open it with mode 'rb'")
    return base64.b64encode(content).decode("ascii")

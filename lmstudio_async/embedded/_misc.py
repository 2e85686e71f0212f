"""What the namespaces beside the models answer: the server itself, uploaded files, the log."""

from __future__ import annotations

import base64
import binascii
import logging
import os
import re
import secrets
import time
from typing import Any

import anyio.to_thread

from lmstudio_async._protocol._errors import server_error
from lmstudio_async._wire._diagnostics import LogEvent, LogPacket
from lmstudio_async._wire._files import FileHandleInfo, UploadFileBase64Parameter
from lmstudio_async._wire._infos import ModelInfo
from lmstudio_async._wire._struct import read
from lmstudio_async._wire._system import ListVariantsParameter, NotifyParameter, ServerInfo, ServerVersion
from lmstudio_async.embedded._catalog import Catalog
from lmstudio_async.embedded._clients import Client, Clients, UploadedFile
from lmstudio_async.embedded._connection import Channel
from lmstudio_async.embedded._instance import model_info
from lmstudio_async.embedded._logs import Logs

__all__ = ["DiagnosticsHandlers", "FileHandlers", "SystemHandlers", "package_version"]

logger = logging.getLogger("lmstudio_async.embedded")

#: What an identifier keeps of a file's name, for those who read logs.
_ENDING = re.compile(r"\.[A-Za-z0-9]{1,15}\Z")
_LONGEST_NAME = 1024

#: Beginning of the file, type in the protocol, MIME type.
_MAGIC = (
    (b"\x89PNG\r\n\x1a\n", "image", "image/png"),
    (b"\xff\xd8\xff", "image", "image/jpeg"),
    (b"RIFF", "image", "image/webp"),
    (b"%PDF-", "application/pdf", "application/pdf"),
)


def package_version() -> str:
    """The version of this package."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("lmstudio-async")
    except PackageNotFoundError:
        return "0.0.0"


class SystemHandlers:
    """The endpoints of ``system``."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def list_downloaded_models(self, _: None) -> list[ModelInfo]:
        return [model_info(entry) for entry in await anyio.to_thread.run_sync(self._catalog.scan)]

    async def list_downloaded_model_variants(self, parameter: ListVariantsParameter) -> list[ModelInfo]:
        entries = await anyio.to_thread.run_sync(self._catalog.scan)
        keys = {
            entry.base_key for entry in entries if parameter.model_key in (entry.model_key, entry.base_key)
        }
        variants = [entry for entry in entries if entry.base_key in keys]
        if len(variants) < 2:
            raise server_error(f'The model "{parameter.model_key}" has no variants.')
        return [model_info(entry) for entry in variants]

    async def alive(self, _: None, __: Channel) -> None:
        await anyio.sleep_forever()

    async def notify(self, parameter: NotifyParameter) -> None:
        logger.info("notification: %s", ": ".join(filter(None, (parameter.title, parameter.description))))

    async def version(self, _: None) -> ServerVersion:
        return ServerVersion(version=package_version(), build=1)

    async def info(self, _: None) -> ServerInfo:
        return ServerInfo(pid=os.getpid(), is_daemon=True, version=package_version())

    async def get_experiment_flags(self, _: None) -> list[str]:
        return []


class FileHandlers:
    """The endpoints of ``files``. Files are kept in memory until their client's last connection goes."""

    def __init__(self, clients: Clients, client: Client) -> None:
        self._clients = clients
        self._client = client

    async def upload_file_base64(self, parameter: UploadFileBase64Parameter) -> FileHandleInfo:
        name, encoded = parameter.name, parameter.content_base64
        if len(name) > _LONGEST_NAME:
            raise server_error(f"The name of a file has at most {_LONGEST_NAME} characters.")
        with self._clients.uploading(self._client, len(encoded) * 3 // 4):
            try:
                content = await anyio.to_thread.run_sync(decode, encoded)
            except ValueError:
                raise server_error(f'The content of "{name[:100]}" is no base64.') from None
            file_type, mime_type = sniff(content)
            ending = _ENDING.search(name)
            identifier = f"{round(time.time() * 1000)} - {secrets.token_hex(4)}{ending[0] if ending else ''}"
            self._client.files[identifier] = UploadedFile(name, file_type, mime_type, content)
        return FileHandleInfo(identifier=identifier, file_type=file_type, size_bytes=len(content))


class DiagnosticsHandlers:
    """The endpoints of ``diagnostics``."""

    def __init__(self, logs: Logs) -> None:
        self._logs = logs

    async def stream_logs(self, _: None, channel: Channel) -> None:
        def watch(event: dict[str, Any]) -> None:
            channel.post(LogPacket(log=read(LogEvent, event)))

        self._logs.watchers.add(watch)
        try:
            await channel.cancelled.wait()
        finally:
            self._logs.watchers.discard(watch)


def decode(content: str) -> bytes:
    """Decode base64.

    :raises ValueError: if it is none.
    """
    try:
        return base64.b64decode(content, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError(str(error)) from error


def sniff(content: bytes) -> tuple[str, str]:
    """What a file is, by its content: the protocol's type and the MIME type."""
    for magic, file_type, mime_type in _MAGIC:
        if content.startswith(magic) and (magic != b"RIFF" or content[8:12] == b"WEBP"):
            return file_type, mime_type
    try:
        content.decode()
    except UnicodeDecodeError:
        return "unknown", "application/octet-stream"
    return "text/plain", "text/plain"

"""Endpoints of the namespace ``files``. A file is kept in memory until the last connection of its client ends."""

from __future__ import annotations

import re
import secrets
import time

import anyio.to_thread

from lmstudio_async._protocol._errors import server_error, unsupported_feature
from lmstudio_async._wire._files import (
    FileHandleInfo,
    FileIdentifierParameter,
    ParseDocumentCreation,
    ParseProgress,
    ParseResult,
    ParserId,
    ParserLoaded,
    RetrieveCreation,
    UploadFileBase64Parameter,
)
from lmstudio_async._wire._models import ModelQuery, QuerySpecifier
from lmstudio_async._wire._struct import write
from lmstudio_async.embedded._connections._clients import Client, Clients, UploadedFile
from lmstudio_async.embedded._connections._connection import Channel
from lmstudio_async.embedded._documents._file_content import decode, sniff
from lmstudio_async.embedded._documents._retrieval import RetrievalSettings, retrieve
from lmstudio_async.embedded._instances._registry import Instances
from lmstudio_async.embedded._versions import engine_version, package_version

__all__ = ["FileHandlers"]

#: Suffix of a file's name, which its identifier keeps to make logs easier to read.
_ENDING = re.compile(r"\.[A-Za-z0-9]{1,15}\Z")
_LONGEST_NAME = 1024


class FileHandlers:
    """The endpoints of ``files``, for one client."""

    def __init__(self, clients: Clients, client: Client, instances: Instances) -> None:
        self._clients = clients
        self._client = client
        self._instances = instances

    async def upload_file_base64(self, parameter: UploadFileBase64Parameter) -> FileHandleInfo:
        name, encoded = parameter.name, parameter.content_base64
        if len(name) > _LONGEST_NAME:
            raise server_error(f"The name of a file has at most {_LONGEST_NAME} characters.")
        with self._clients.uploading(self._client, len(encoded) * 3 // 4):
            try:
                content = await anyio.to_thread.run_sync(decode, encoded)
            except ValueError:
                raise server_error(f'The content of "{name[:100]}" is not valid base64.') from None
            file_type, mime_type = sniff(content)
            ending = _ENDING.search(name)
            identifier = f"{round(time.time() * 1000)} - {secrets.token_hex(4)}{ending[0] if ending else ''}"
            self._client.files[identifier] = UploadedFile(name, file_type, mime_type, content)
        return FileHandleInfo(identifier=identifier, file_type=file_type, size_bytes=len(content))

    async def get_document_parsing_library(self, parameter: FileIdentifierParameter) -> ParserId:
        return _parser_for(self._file(parameter.file_identifier))

    async def parse_document(self, creation: ParseDocumentCreation, channel: Channel) -> None:
        file = self._file(creation.file_identifier)
        parser, wanted = _parser_for(file), creation.parse_opts.parser_id
        if wanted is not None and wanted.library != parser.library:
            raise server_error(
                f'This server has no parser "{wanted.library[:100]}" for "{file.name[:100]}".',
                f"Take the one that it has, {parser.library}, or leave it to the server.",
            )
        channel.post(ParserLoaded(parser=parser))
        with channel.cancellable():
            text = await _text_of(file)
            channel.post(ParseProgress(progress=1))
            channel.post(ParseResult(content=text, parser=parser))
            return
        raise server_error("The parsing was cancelled.")

    async def retrieve(self, creation: RetrieveCreation, channel: Channel) -> None:
        settings = RetrievalSettings.read(write(creation.config))
        files = [self._file(identifier) for identifier in creation.file_identifiers]
        query = QuerySpecifier(query=ModelQuery(identifier=settings.model or None))
        instance = self._instances.find(query, "embedding")
        with instance.use("computingEmbedding") as use, channel.cancellable(instance.unloaded):
            texts = [await _text_of(file) for file in files]
            async with instance.lend(use) as engine:
                await retrieve(creation.query, texts, settings, engine, channel)
            return
        if channel.cancelled.is_set():
            raise server_error("The retrieval was stopped.")
        raise instance.unloaded_error()

    def _file(self, identifier: str) -> UploadedFile:
        file = self._client.files.get(identifier)
        if file is None:
            raise server_error(
                f'This client has uploaded no file "{identifier[:200]}".',
                "Upload it first; it is known as long as its client is connected.",
            )
        return file


def _parser_for(file: UploadedFile) -> ParserId:
    """Return the parser that extracts the text of a file.

    :raises LMStudioUnsupportedFeatureError: there is no parser for this type of file.
    """
    if file.file_type != "text/plain":
        raise unsupported_feature(
            "files.parseDocument",
            engine_version(),
            f'this server reads only text, and "{file.name[:100]}" is not text',
            "Convert it to UTF-8 text first, and upload that.",
        )
    return ParserId(library="lmstudio-async", version=package_version())


async def _text_of(file: UploadedFile) -> str:
    _parser_for(file)
    return await anyio.to_thread.run_sync(file.content.decode, "utf-8-sig")

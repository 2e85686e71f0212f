"""The endpoints of ``files``."""

from __future__ import annotations

from typing import Any

from lmstudio_async._protocol._endpoints._base import ChannelEndpoint, RpcEndpoint
from lmstudio_async._wire._files import (
    FileHandleInfo,
    FileIdentifierParameter,
    FileNameParameter,
    FilePath,
    ParseDocumentCreation,
    ParseDocumentPacket,
    ParserId,
    RetrieveCreation,
    RetrievePacket,
    Stop,
    UploadFileBase64Parameter,
)
from lmstudio_async._wire._models import Cancel
from lmstudio_async._wire._struct import Unknown

GET_LOCAL_FILE_ABSOLUTE_PATH: RpcEndpoint[FileNameParameter, FilePath] = RpcEndpoint(
    "getLocalFileAbsolutePath", FileNameParameter, FilePath, label="File path"
)
# What is uploaded twice is two files, but they go with the client, and nobody has heard of the first.
UPLOAD_FILE_BASE64: RpcEndpoint[UploadFileBase64Parameter, FileHandleInfo] = RpcEndpoint(
    "uploadFileBase64", UploadFileBase64Parameter, FileHandleInfo, label="File upload"
)
RETRIEVE: ChannelEndpoint[RetrieveCreation, Any] = ChannelEndpoint(
    "retrieve", RetrieveCreation, RetrievePacket, Stop | Unknown, label="Retrieval"
)
PARSE_DOCUMENT: ChannelEndpoint[ParseDocumentCreation, Any] = ChannelEndpoint(
    "parseDocument", ParseDocumentCreation, ParseDocumentPacket, Cancel | Unknown, label="Document parsing"
)
GET_DOCUMENT_PARSING_LIBRARY: RpcEndpoint[FileIdentifierParameter, ParserId] = RpcEndpoint(
    "getDocumentParsingLibrary", FileIdentifierParameter, ParserId, label="Document parser"
)

"""The endpoints of ``files``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmstudio_async._protocol._endpoints._base import ChannelEndpoint, RpcEndpoint

if TYPE_CHECKING:
    from lmstudio_async._wire._files import (
        FileHandleInfo,
        FileIdentifierParameter,
        ParseDocumentCreation,
        ParserId,
        RetrieveCreation,
        UploadFileBase64Parameter,
    )

# Safe to repeat: a duplicate upload is dropped with the client.
UPLOAD_FILE_BASE64: RpcEndpoint[UploadFileBase64Parameter, FileHandleInfo] = RpcEndpoint(
    "uploadFileBase64", "_files.UploadFileBase64Parameter", "_files.FileHandleInfo", label="File upload"
)
RETRIEVE: ChannelEndpoint[RetrieveCreation, Any] = ChannelEndpoint(
    "retrieve",
    "_files.RetrieveCreation",
    "_files.RetrievePacket",
    "_files.Stop | _struct.Unknown",
    label="Retrieval",
)
PARSE_DOCUMENT: ChannelEndpoint[ParseDocumentCreation, Any] = ChannelEndpoint(
    "parseDocument",
    "_files.ParseDocumentCreation",
    "_files.ParseDocumentPacket",
    "_models.Cancel | _struct.Unknown",
    label="Document parsing",
)
GET_DOCUMENT_PARSING_LIBRARY: RpcEndpoint[FileIdentifierParameter, ParserId] = RpcEndpoint(
    "getDocumentParsingLibrary", "_files.FileIdentifierParameter", "_files.ParserId", label="Document parser"
)

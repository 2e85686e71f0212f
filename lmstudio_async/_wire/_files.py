"""Wire types for uploading files, searching them, and converting them to text."""

from __future__ import annotations

from typing import Any, ClassVar

import attrs

from lmstudio_async._wire._predict import KvConfig
from lmstudio_async._wire._struct import Unknown, WireObject

__all__ = [
    "FileHandleInfo",
    "FileIdentifierParameter",
    "FileProcessList",
    "FileProcessingEnd",
    "FileProcessingStart",
    "FileProcessingStepEnd",
    "FileProcessingStepProgress",
    "FileProcessingStepStart",
    "ParseDocumentCreation",
    "ParseDocumentPacket",
    "ParseOptions",
    "ParseProgress",
    "ParseResult",
    "ParserId",
    "ParserLoaded",
    "RetrievalEntry",
    "RetrievalResult",
    "RetrievalResultPacket",
    "RetrieveCreation",
    "RetrievePacket",
    "SearchingEnd",
    "SearchingStart",
    "Stop",
    "UploadFileBase64Parameter",
]


@attrs.frozen(kw_only=True)
class UploadFileBase64Parameter(WireObject):
    name: str
    content_base64: str = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class FileHandleInfo(WireObject):
    """A file on the server.

    :param identifier: the identifier by which a message names it.
    :param file_type: ``image``, ``text/plain``, ``application/pdf``, ``application/word``, ``text/other``,
        ``unknown``, or a type that this SDK does not know.
    :param size_bytes: its size.
    :param extra: members that the server sent and this SDK does not know.
    """

    identifier: str
    file_type: str = "unknown"
    size_bytes: int = 0


# -- retrieve: the passages of some files that match a query


@attrs.frozen(kw_only=True)
class RetrieveCreation(WireObject):
    query: str
    file_identifiers: list[str]
    config: KvConfig = attrs.field(factory=KvConfig)


@attrs.frozen(kw_only=True)
class FileProcessList(WireObject):
    TAG: ClassVar[str] = "onFileProcessList"
    indices: list[int]


@attrs.frozen(kw_only=True)
class FileProcessingStart(WireObject):
    TAG: ClassVar[str] = "onFileProcessingStart"
    index: int


@attrs.frozen(kw_only=True)
class FileProcessingStepStart(WireObject):
    """Start of a step: ``loading``, ``chunking`` or ``embedding``."""

    TAG: ClassVar[str] = "onFileProcessingStepStart"
    index: int
    step: str = ""


@attrs.frozen(kw_only=True)
class FileProcessingStepProgress(WireObject):
    TAG: ClassVar[str] = "onFileProcessingStepProgress"
    index: int
    step: str = ""
    progress: float


@attrs.frozen(kw_only=True)
class FileProcessingStepEnd(WireObject):
    TAG: ClassVar[str] = "onFileProcessingStepEnd"
    index: int
    step: str = ""


@attrs.frozen(kw_only=True)
class FileProcessingEnd(WireObject):
    TAG: ClassVar[str] = "onFileProcessingEnd"
    index: int


@attrs.frozen(kw_only=True)
class SearchingStart(WireObject):
    TAG: ClassVar[str] = "onSearchingStart"


@attrs.frozen(kw_only=True)
class SearchingEnd(WireObject):
    TAG: ClassVar[str] = "onSearchingEnd"


@attrs.frozen(kw_only=True)
class RetrievalEntry(WireObject):
    """A passage that matches the query.

    :param content: its text.
    :param score: how well it matches, up to 1.
    :param source_index: position of its file in the list of given files.
    :param page_number: its page, or ``[first, last]``.
    :param line_number: its line, or ``[first, last]``.
    :param extra: members that the server sent and this SDK does not know.
    """

    content: str = ""
    score: float = 0
    source_index: int = 0
    page_number: Any = attrs.field(default=None, hash=False)
    line_number: Any = attrs.field(default=None, hash=False)


@attrs.frozen(kw_only=True)
class RetrievalResult(WireObject):
    """The passages of some files that match a query, the best first.

    :param entries: the passages.
    :param extra: members that the server sent and this SDK does not know.
    """

    entries: list[RetrievalEntry] = attrs.field(factory=list, hash=False)


@attrs.frozen(kw_only=True)
class RetrievalResultPacket(WireObject):
    TAG: ClassVar[str] = "result"
    result: RetrievalResult


RetrievePacket = (
    FileProcessList
    | FileProcessingStart
    | FileProcessingStepStart
    | FileProcessingStepProgress
    | FileProcessingStepEnd
    | FileProcessingEnd
    | SearchingStart
    | SearchingEnd
    | RetrievalResultPacket
    | Unknown
)


@attrs.frozen(kw_only=True)
class Stop(WireObject):
    TAG: ClassVar[str] = "stop"


# -- parseDocument: the text of a file


@attrs.frozen(kw_only=True)
class ParserId(WireObject):
    """The parser that converts a file to text.

    :param library: name of its library.
    :param version: version of its library.
    :param extra: members that the server sent and this SDK does not know.
    """

    library: str = ""
    version: str = ""


@attrs.frozen(kw_only=True)
class ParseOptions(WireObject):
    parser_id: ParserId | None = None


@attrs.frozen(kw_only=True)
class ParseDocumentCreation(WireObject):
    file_identifier: str
    parse_opts: ParseOptions = attrs.field(factory=ParseOptions)


@attrs.frozen(kw_only=True)
class ParserLoaded(WireObject):
    TAG: ClassVar[str] = "parserLoaded"
    parser: ParserId = attrs.field(factory=ParserId)


@attrs.frozen(kw_only=True)
class ParseProgress(WireObject):
    TAG: ClassVar[str] = "progress"
    progress: float


@attrs.frozen(kw_only=True)
class ParseResult(WireObject):
    TAG: ClassVar[str] = "result"
    content: str
    parser: ParserId = attrs.field(factory=ParserId)


ParseDocumentPacket = ParserLoaded | ParseProgress | ParseResult | Unknown


@attrs.frozen(kw_only=True)
class FileIdentifierParameter(WireObject):
    file_identifier: str

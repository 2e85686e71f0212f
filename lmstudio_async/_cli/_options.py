"""Options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Host", "Json", "Models", "Quiet", "ServerHost", "TokenFile"]

Host = Annotated[
    str | None,
    typer.Option(
        metavar="HOST",
        help="Address of LM Studio: host:port or a URL, or 'embedded'. Default: LMSTUDIO_HOST, then the ports of this "
        "machine.",
    ),
]
#: For the commands that cannot use the embedded server.
ServerHost = Annotated[
    str | None,
    typer.Option(
        "--host",
        metavar="HOST",
        help="Address of LM Studio or of 'lmsa serve': host:port or a URL. Default: LMSTUDIO_HOST, then the ports of this "
        "machine.",
    ),
]
TokenFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="File with an API token. Default: LM_API_TOKEN, then LMSTUDIO_API_TOKEN.",
    ),
]
Models = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="PATH",
        help="Use the embedded server, with this models folder or GGUF file; can be repeated.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print no notes and no progress.")]

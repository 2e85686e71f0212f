"""The server that a command uses: the one that the user names, the LM Studio that answers, or the embedded server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from lmstudio_async._cli._run import PROGRAM
from lmstudio_async._install_command import shell_line
from lmstudio_async.errors import LMStudioUnreachableError, LMStudioValueError

if TYPE_CHECKING:
    from lmstudio_async import AsyncClient
    from lmstudio_async._cli._console import Console

__all__ = ["EMBEDDED", "Target"]

EMBEDDED = "embedded"


@attrs.frozen
class Target:
    """The server as the user has named it.

    :param host: address of LM Studio, or ``embedded``; None: ``LMSTUDIO_HOST``, else the ports of this machine.
    :param token_file: file with an API token; None: ``LMSTUDIO_API_TOKEN``, if it is set.
    :param models: models folders and files of the embedded server, which is used then.
    """

    host: str | None = None
    token_file: Path | None = None
    models: Sequence[Path] | None = None

    @property
    def named_host(self) -> str | None:
        """The host that the user has named by an option or by ``LMSTUDIO_HOST``; None if there is none.

        An empty variable is the same as none, as it is for `AsyncClient`.
        """
        if self.models:
            return EMBEDDED
        return self.host if self.host is not None else os.environ.get("LMSTUDIO_HOST") or None

    @property
    def options(self) -> Sequence[str]:
        """The options that name the same server in another command."""
        named = [] if self.host is None else ["--host", self.host]
        if self.token_file is not None:
            named += ["--token-file", str(self.token_file)]
        for place in self.models or ():
            named += ["--models", str(place)]
        return named

    def line(self, *words: str) -> str:
        """Return the line for a shell that runs another command on the same server.

        :param words: the command, and its arguments.
        """
        return shell_line([PROGRAM, *words, *self.options])

    def lasting_line(self, *words: str) -> str:
        """Return the line for a command about instances that stay: on the same server, unless that is the embedded one.

        :param words: the command, and its arguments.
        """
        is_embedded = bool(self.models) or self.host == EMBEDDED
        return (Target() if is_embedded else self).line(*words)

    @asynccontextmanager
    async def connect(
        self,
        console: Console,
        *,
        may_embed: bool,
        timeout: float | None = None,  # noqa: ASYNC109 - the client's timeout, not that of this call
    ) -> AsyncIterator[AsyncClient]:
        """Provide a client of the server, until the context ends.

        :param may_embed: whether the embedded server will do, if no LM Studio answers on this machine. It ends with the
            command, so that the commands for instances which stay need another server.
        :param timeout: seconds without any news from the server after which the command fails; None for no limit.
        :raises LMStudioValueError: the options exclude each other, or the token file has no token.
        :raises LMStudioUnreachableError: no server answers.
        """
        from lmstudio_async import AsyncClient
        from lmstudio_async._cli._server_errors import errors_for_shell, origin_of

        if self.models and self.host not in (None, EMBEDDED):
            raise LMStudioValueError(
                f"--models is for the embedded server, and --host {self.host} is another one: give one of the two."
            )
        host = self.named_host
        if host is None:
            host = await AsyncClient.find_default_local_api_host()
            if host is None and may_embed:
                console.note("No LM Studio answers on this machine: this command uses the embedded server.")
                host = EMBEDDED
        if host == EMBEDDED and not may_embed:
            raise LMStudioUnreachableError(
                "The embedded server would end with this command, and all instances with it. Start a server that stays: "
                "lmsa serve"
            )
        if host is None:
            raise LMStudioUnreachableError(
                "No LM Studio answers on this machine. Start it, name another machine with --host, or start a server of "
                "your own: lmsa serve"
            )
        token = self._token()
        if host == EMBEDDED:
            # Not at the top: commands on another server need none of its modules.
            from lmstudio_async import EmbeddedServer

            async with AsyncClient(EmbeddedServer(self.models or None), token, timeout=timeout) as client:
                yield client
            return
        with errors_for_shell(origin_of(self.host), may_embed=may_embed):
            async with AsyncClient(host, token, timeout=timeout) as client:
                yield client

    def _token(self) -> str | None:
        from lmstudio_async._cli._token_file import tokens_in

        return None if self.token_file is None else tokens_in(self.token_file)[0]

"""The engine of one instance, which is lent to requests and restarted for a request that needs other settings.

llama.cpp accepts a draft model, a chat template and a number of threads only when it starts. A request that needs
other settings than those of the engine waits until no request uses the engine. Then the process is ended and a new one
is started. Later requests queue behind the waiting one, so that a stream of them cannot delay it, and all requests that
need the same settings take the new engine together. The new engine stays until a request needs other settings.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread

from lmstudio_async._protocol._errors import server_error
from lmstudio_async.embedded._engine._engine import Engine, EngineFailure
from lmstudio_async.embedded._engine._engine_spec import EngineSpec
from lmstudio_async.embedded._engine._pulse import Pulse
from lmstudio_async.embedded._engine._worker import model_files

__all__ = ["EngineKeeper"]


class _Waiter:
    """A request that waits for the engine.

    :param spec: the settings that the request needs; None if any engine of this model will do.
    :param only_template: whether only the chat template of ``spec`` matters to the request.
    """

    def __init__(self, spec: EngineSpec | None, *, only_template: bool) -> None:
        self.spec = spec
        self._only_template = only_template
        self.turn = anyio.Event()
        self.error: Exception | None = None

    def fits(self, engine: Engine) -> bool:
        if self.spec is None or self.spec == engine.spec:
            return True
        return self._only_template and self.spec.chat_template == engine.spec.chat_template


class EngineKeeper:
    """Owner of the engine of one instance, which lends, restarts and ends it.

    :param engine: the engine, started as the load config specifies.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine: Engine | None = engine
        self._users = 0
        self._waiting: list[_Waiter] = []
        self._restart_due = anyio.Event()
        self._changing = anyio.Lock(fast_acquire=True)
        self._change: anyio.CancelScope | None = None
        self._start: tuple[EngineSpec, anyio.CancelScope] | None = None
        self._failure: EngineFailure | None = None

    @property
    def engine(self) -> Engine | None:
        """The running engine; None while it is being restarted."""
        return self._engine

    @asynccontextmanager
    async def lend(
        self, spec: EngineSpec | None = None, *, only_template: bool = False
    ) -> AsyncIterator[Engine]:
        """Wait for an engine with these settings and lend it to a request. Never lend twice at a time to one request.

        :param spec: the settings that the request needs; None if any engine of this model will do.
        :param only_template: whether only the chat template of ``spec`` matters to the request.
        :raises LMStudioServerError: the engine cannot be started with these settings; it is kept as it was.
        :raises EngineFailure: the engine has ended.
        """
        await self._wait_for_turn(_Waiter(spec, only_template=only_template))
        try:
            assert self._engine is not None
            yield self._engine
        finally:
            self._leave()

    async def keep(self) -> str:
        """Restart the engine whenever a request needs other settings, until it ends otherwise; return how it ended.

        A task of the registry runs this as long as the instance lives.
        """
        while True:
            engine = self._engine
            assert engine is not None
            ending = await self._watch(engine)
            if ending is not None:
                how = ending
                break
            try:
                await self._start_anew(engine)
            except EngineFailure as failure:
                how = f"could not be started again: {failure.reason.rstrip('.')}"
                break
            if self._engine is None:
                how = "was unloaded"
                break
        if self._failure is None:
            self._finish(EngineFailure(f"the engine {how}"))
        return how

    def retire(self) -> None:
        """Begin to unload: fail the requests that wait for the engine, and let the ones that use it finish.

        A restart in progress is cancelled.
        """
        if self._failure is None:
            self._finish(EngineFailure("the model was unloaded", unloaded=True))
        if self._change is not None:
            self._change.cancel()

    async def aclose(self) -> None:
        """End the engine, even while it is being restarted."""
        self.retire()
        async with self._changing:
            if self._engine is not None:
                await self._engine.aclose()

    # -- turns

    async def _wait_for_turn(self, waiter: _Waiter) -> None:
        if self._failure is not None:
            raise _copy_of(self._failure)
        self._waiting.append(waiter)
        self._wake_or_restart()
        if waiter.turn.is_set():
            return
        try:
            await waiter.turn.wait()
        except BaseException:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
                self._give_up_start()
                self._wake_or_restart()
            elif waiter.error is None:
                self._leave()
            raise
        if waiter.error is not None:
            raise waiter.error

    def _leave(self) -> None:
        self._users -= 1
        self._wake_or_restart()

    def _wake_or_restart(self) -> None:
        """Wake the waiters that the engine fits, or have it restarted for the one that has waited longest."""
        engine = self._engine
        if engine is None or not self._waiting:
            return
        if self._waiting[0].fits(engine):
            fitting = [waiter for waiter in self._waiting if waiter.fits(engine)]
            self._waiting = [waiter for waiter in self._waiting if waiter not in fitting]
            self._users += len(fitting)
            for waiter in fitting:
                waiter.turn.set()
        elif not self._users:
            self._restart_due.set()

    def _finish(self, failure: EngineFailure) -> None:
        """Fail all waiting and later requests, because the engine has ended for good."""
        self._failure = failure
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.error = _copy_of(failure)
            waiter.turn.set()

    # -- the engine

    async def _watch(self, engine: Engine) -> str | None:
        """Wait until the engine has ended and return how, or until it has to be restarted and return None."""
        ending = None

        async def watch() -> None:
            nonlocal ending
            ending = await engine.watch()
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await self._restart_due.wait()
            tasks.cancel_scope.cancel()
        self._restart_due = anyio.Event()
        return ending

    async def _start_anew(self, engine: Engine) -> None:
        """Replace the engine with one that has the settings of the longest waiting request, if it needs other ones."""
        wanted = self._next_spec(engine)
        if wanted is None:
            return
        # Check the files before the engine is ended: if they are unreadable, it could not be started again.
        try:
            unreadable = await anyio.to_thread.run_sync(_unreadable, wanted)
        except RuntimeError as error:
            # No thread can be started. The engine could not be started without one either.
            unreadable = str(error)
        if unreadable is not None:
            self._refuse(wanted, engine.spec, EngineFailure(unreadable))
            self._wake_or_restart()
            return
        if self._next_spec(engine) != wanted:
            # The request was cancelled meanwhile, and the next one may need other files.
            self._wake_or_restart()
            return
        async with self._changing:
            self._engine = None
            with anyio.CancelScope() as self._change:
                await engine.aclose()
                await self._start_as(wanted, engine.spec, engine.pulse)
            self._change = None
        self._wake_or_restart()

    def _next_spec(self, engine: Engine) -> EngineSpec | None:
        """Return the settings of the longest waiting request, if they differ and no request uses the engine."""
        if self._users or not self._waiting or self._waiting[0].fits(engine) or self._failure is not None:
            return None
        return self._waiting[0].spec

    async def _start_as(self, wanted: EngineSpec, usual: EngineSpec, pulse: Pulse) -> None:
        failed = None
        with anyio.CancelScope() as scope:
            self._start = wanted, scope
            self._give_up_start()
            try:
                self._engine = await _start_engine(wanted, pulse)
            except EngineFailure as failure:
                failed = failure
        self._start = None
        if self._engine is None:
            self._engine = await _start_engine(usual, pulse)
        if failed is not None:
            self._refuse(wanted, usual, failed)

    def _give_up_start(self) -> None:
        """Cancel the start of an engine that no request waits for any more."""
        if self._start is not None and all(waiter.spec != self._start[0] for waiter in self._waiting):
            self._start[1].cancel()

    def _refuse(self, wanted: EngineSpec, usual: EngineSpec, failure: EngineFailure) -> None:
        """Fail the requests that need these settings; the others keep waiting."""
        for waiter in [waiter for waiter in self._waiting if waiter.spec == wanted]:
            self._waiting.remove(waiter)
            waiter.error = server_error(
                f"The engine cannot be started with {_difference(wanted, usual)}: {failure.reason.rstrip('.')}.",
                "The model stays loaded as it was.",
            )
            waiter.turn.set()


async def _start_engine(spec: EngineSpec, pulse: Pulse) -> Engine:
    """Start an engine, without a watcher of its progress.

    :raises EngineFailure: the engine cannot be started, perhaps because this process lacks threads or file descriptors.
    """
    try:
        return await Engine.start(spec, lambda _: None, pulse)
    except (OSError, RuntimeError) as error:
        raise EngineFailure(str(error)) from error


def _copy_of(failure: EngineFailure) -> EngineFailure:
    """Copy a failure for one request, because a raised exception gets the traceback of that request."""
    return EngineFailure(failure.reason, unloaded=failure.unloaded)


def _unreadable(spec: EngineSpec) -> str | None:
    """Return why a file of an engine cannot be read; None if all of them can."""
    for path in (spec.model_path, spec.projector_path, spec.draft_model_path):
        for part in () if path is None else model_files(str(path)):
            try:
                with open(part, "rb"):
                    pass
            except OSError as error:
                return f'the file "{part}" cannot be read ({error.strerror or error})'
    return None


def _difference(wanted: EngineSpec, usual: EngineSpec) -> str:
    """Describe the settings that are new, for a message."""
    new = []
    if wanted.draft_model_path is not None and wanted.draft_model_path != usual.draft_model_path:
        new.append(f'the draft model "{wanted.draft_model_path.name}"')
    if wanted.chat_template != usual.chat_template:
        new.append("this prompt template")
    return " and ".join(new) or "these settings"

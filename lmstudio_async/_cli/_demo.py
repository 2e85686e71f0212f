"""The demo itself: load a model twice, list both instances, ask one of them, and unload both.

It is an example of the use of `AsyncClient`. ``_stage.py`` finds the server and the model, and ``_screen.py`` prints
the output.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, suppress
from itertools import count

import anyio

from lmstudio_async import AsyncClient, AsyncLLM, LMStudioError, LMStudioIdentifierInUseError
from lmstudio_async._cli._screen import Screen

__all__ = ["demo"]

QUESTION = "Give me three reasons to be happy today."

# Seconds: the TTL of the second instance, and the delay with which a server may unload it after that.
TTL = 5
UNLOAD_DELAY = 30


async def demo(client: AsyncClient, model_key: str, second_name: str, screen: Screen) -> None:
    """Show the life of two instances of a model.

    :param client: a client of any server.
    :param model_key: the language model to load.
    :param second_name: the identifier of its second instance, which gets a number behind it if another one has it.
    :param screen: the screen that shows it.
    """
    async with AsyncExitStack() as clean_up:
        screen.heading("Load two instances of one model")
        first = await load(client, model_key, None, 3600, screen)
        clean_up.push_async_callback(unload_if_there, first)
        second = await load_under_free_name(client, model_key, second_name, screen)
        clean_up.push_async_callback(unload_if_there, second)

        screen.heading("List what is loaded")
        screen.table(await client.llm.list_loaded())

        screen.heading(f"Ask {second.identifier}: {QUESTION}")
        await ask(second, screen)

        screen.heading(f"Leave {second.identifier} alone: its TTL unloads it after {TTL} idle seconds")
        await watch_it_expire(client, second, screen)

        screen.heading(f"Unload {first.identifier} by its handle")
        await first.unload()
        screen.table(await client.llm.list_loaded())


async def load(
    client: AsyncClient, model_key: str, identifier: str | None, ttl: float, screen: Screen
) -> AsyncLLM:
    """Load an instance, with a progress bar. Ctrl-C during the load cancels it on the server."""
    with screen.progress(identifier or model_key) as bar:
        async with client.llm.load_new_instance_stream(model_key, identifier, ttl=ttl) as loading:
            async for progress in loading:
                bar.show(progress.fraction, progress.phase)
            return await loading.wait_for_result()


async def load_under_free_name(client: AsyncClient, model_key: str, name: str, screen: Screen) -> AsyncLLM:
    """Load an instance with a short TTL under a name, or with a number behind it while other instances have the name."""
    for number in count(1):
        # To list the names first would not help: another demo may take one meanwhile.
        with suppress(LMStudioIdentifierInUseError):
            return await load(client, model_key, name if number == 1 else f"{name}-{number}", TTL, screen)
    raise AssertionError("there are more numbers than instances")


async def ask(llm: AsyncLLM, screen: Screen) -> None:
    """Show an answer token by token."""
    async with llm.respond_stream(QUESTION, config={"max_tokens": 200, "temperature": 0}) as answer:
        with screen.paragraph() as paragraph:
            async for fragment in answer:
                paragraph.write(fragment.content)
        result = await answer.wait_for_result()
    screen.note(
        f"{result.stats.predicted_tokens_count} tokens, {result.stats.tokens_per_second:,.0f} per second"
    )


async def watch_it_expire(client: AsyncClient, llm: AsyncLLM, screen: Screen) -> None:
    """Wait until the server has unloaded an idle instance. Listing does not count as using it."""
    start = anyio.current_time()
    with screen.progress(llm.identifier) as bar:
        while llm in await client.llm.list_loaded():
            idle = anyio.current_time() - start
            if idle > TTL + UNLOAD_DELAY:
                bar.show(1.0, "still there: unloading it")
                await client.llm.unload(llm.identifier)
            else:
                bar.show(min(idle / TTL, 0.99), f"idle for {idle:.1f} s")
            await anyio.sleep(0.2)
        bar.show(1.0, "unloaded")


async def unload_if_there(llm: AsyncLLM) -> None:
    """Unload an instance if it is still loaded, also after Ctrl-C or an error."""
    with anyio.move_on_after(10, shield=True), suppress(LMStudioError):
        await llm.unload()

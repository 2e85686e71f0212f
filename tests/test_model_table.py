"""Lists of instances and of models in notebooks: lists as any other, which a notebook shows as a table."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import anyio
import attrs
import pytest

import lmstudio_sync
from lmstudio_async import AsyncClient, EmbeddedServer
from lmstudio_async.testing import ModelsFolder
from tests.repository.test_repository import asking
from tests.scripted_server import INSTANCE, MODEL, ScriptedServer

VECTORS = "text-embedding-vectors"

#: A name that would run a script, end the table, or control a terminal, if it got into the page as it is.
HOSTILE = (
    "</td></table><script>alert(1)</script><img src=x onerror='alert(2)'>\"&\x1b[2J\u202e\n" + "long" * 1000
)


class Table(HTMLParser):
    """A table as a browser sees it.

    :param html: its text.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag == "tr":
            self.rows.append([])
        elif tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.rows and self.rows[-1] and data != "\n":
            self.rows[-1][-1] += data

    def column(self, name: str) -> list[str]:
        number = self.rows[0].index(name)
        return [row[number] for row in self.rows[1:]]


def shown(models: Sequence[Any]) -> Table:
    html = models._repr_html_()  # type: ignore[attr-defined]
    assert html is not None
    return Table(html)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    models = ModelsFolder(folder)
    models.add_llm("tiny")
    models.add_embedding(VECTORS)
    return folder


@pytest.fixture(scope="module")
async def client(folder: Path) -> Any:
    async with EmbeddedServer(folder, threads=1) as server, AsyncClient(server) as client:
        yield client


@pytest.fixture(scope="module")
def blocking_client(folder: Path) -> Iterator[lmstudio_sync.Client]:
    with lmstudio_sync.Client(EmbeddedServer(folder, threads=1)) as client:
        yield client


def check_lists(lists: dict[str, Sequence[Any]]) -> None:
    """Check all lists of a server with the instance ``mine`` of ``tiny`` and the embedding model `VECTORS`."""
    for name, found in lists.items():
        assert isinstance(found, list), name
        assert found == list(found), name
        assert list(found) == found, name
        assert repr(found) == repr(list(found)), name
        assert found[0] in found, name
    for name in ("list_instances", "list_loaded_models"):
        table = shown(lists[name])
        assert table.column("identifier") == ["mine", VECTORS]
        assert table.column("type") == ["llm", "embedding"]
        assert table.column("model key") == ["tiny", VECTORS]
        assert table.column("TTL") == ["2:00:00", "never"]
    assert shown(lists["list_instances"]).column("status") == ["idle", "idle"]
    assert shown(lists["list_loaded"]).column("identifier") == ["mine"]
    assert shown(lists["list_downloaded"]).column("model key") == ["tiny"]
    for name in ("list_downloaded_models", "system"):
        assert sorted(shown(lists[name]).column("model key")) == [VECTORS, "tiny"]


async def test_lists_are_lists_and_are_shown_as_tables(client: AsyncClient) -> None:
    await client.llm.load_new_instance("tiny", "mine", ttl=7200)
    await client.embedding.load_new_instance(VECTORS, ttl=None)
    check_lists(
        {
            "list_instances": await client.list_instances(),
            "list_loaded_models": await client.list_loaded_models(),
            "list_loaded": await client.llm.list_loaded(),
            "list_downloaded": await client.llm.list_downloaded(),
            "list_downloaded_models": await client.list_downloaded_models(),
            "system": await client.system.list_downloaded_models(),
        }
    )
    for each in await client.list_loaded_models():
        await each.unload()


def test_lists_of_the_facade_are_lists_and_are_shown_as_tables(blocking_client: lmstudio_sync.Client) -> None:
    client = blocking_client
    client.llm.load_new_instance("tiny", "mine", ttl=7200)
    client.embedding.load_new_instance(VECTORS, ttl=None)
    assert type(client.list_loaded_models()[0]) is lmstudio_sync.LLM
    check_lists(
        {
            "list_instances": client.list_instances(),
            "list_loaded_models": client.list_loaded_models(),
            "list_loaded": client.llm.list_loaded(),
            "list_downloaded": client.llm.list_downloaded(),
            "list_downloaded_models": client.list_downloaded_models(),
            "system": client.system.list_downloaded_models(),
        }
    )


async def listed(info: dict[str, Any], count: int = 1, *, downloaded: bool = False) -> Sequence[Any]:
    """Return the list that a client makes of a server's infos."""
    found: list[Sequence[Any]] = []
    with anyio.fail_after(10):
        async with ScriptedServer().client() as (client, server), anyio.create_task_group() as tasks:

            async def ask() -> None:
                found.append(await (client.llm.list_downloaded() if downloaded else client.llm.list_loaded()))

            tasks.start_soon(ask)
            await server.answer(await server.next_message(), [info] * count)
    return found[0]


@pytest.mark.parametrize("downloaded", [False, True], ids=["loaded", "downloaded"])
async def test_names_of_a_server_cannot_leave_their_cells(downloaded: bool) -> None:
    names = ("modelKey", "displayName", "identifier", "paramsString", "architecture", "deviceIdentifier")
    hostile = {
        **(MODEL if downloaded else INSTANCE),
        **dict.fromkeys(names, HOSTILE),
        "quantization": {"name": HOSTILE},
    }

    table = shown(await listed(hostile, downloaded=downloaded))

    assert set(table.tags) <= {"table", "thead", "tbody", "tr", "th", "td"}
    assert table.attributes == []
    assert len(table.rows) == 2
    assert len(table.rows[0]) == len(table.rows[1])
    hostile_cells = [cell for cell in table.rows[1] if "<script>" in cell]
    assert len(hostile_cells) >= 3
    for cell in table.rows[1]:
        assert cell.isprintable()
        assert len(cell) < 120


async def test_numbers_that_are_too_large_do_not_break_a_table() -> None:
    odd = INSTANCE | {"ttlMs": 10**300, "sizeBytes": 10**300, "contextLength": 10**300}

    table = shown(await listed(odd))

    assert table.column("TTL") == ["?"]


async def test_a_long_list_is_cut_with_the_number_of_the_others() -> None:
    models = await listed(INSTANCE, 1000)

    table = shown(models)

    assert len(models) == 1000
    assert len(table.rows) == 202
    assert table.rows[-1] == ["… and 800 more"]


async def test_the_prompt_of_a_busy_instance_is_shown(client: AsyncClient) -> None:
    await client.llm.load_new_instance("tiny", "mine")
    instances = await client.list_instances()
    instances[0] = attrs.evolve(instances[0], status="processingPrompt", prompt_progress=0.42)

    assert shown(instances).column("status") == ["processingPrompt"]
    assert shown(instances).column("prompt") == ["42%"]
    await instances[0].handle().unload()


async def test_the_results_of_a_search_and_their_options_are_shown_as_tables() -> None:
    result = {"name": HOSTILE, "identifier": {"type": "hub", "identifier": "acme/tiny"}, "exact": True}
    option = {"name": "Tiny", "quantization": "Q4_K_M", "sizeBytes": 2 * 10**9, "recommended": True}
    async with ScriptedServer().client() as (client, server):
        async with asking(client.repository.search_models("tiny")) as found:
            await server.answer(await server.next_message(), {"results": [result]})
        async with asking(found[0][0].get_download_options()) as options:
            await server.answer(await server.next_message(), {"results": [option]})

    table = shown(found[0])
    assert table.attributes == []
    assert table.rows[0] == ["name", "found as", "type", "exact"]
    assert table.rows[1][1:] == ["acme/tiny", "hub", "yes"]
    assert shown(options[0]).rows == [
        ["name", "quantization", "size", "recommended"],
        ["Tiny", "Q4_K_M", "2.00 GB", "yes"],
    ]


async def test_a_list_that_is_no_table_is_shown_as_text() -> None:
    models: Any = await listed(INSTANCE)
    assert re.match("<table>", models._repr_html_())

    models.append("something else")
    assert models._repr_html_() is None

    models.clear()
    assert models._repr_html_() is None

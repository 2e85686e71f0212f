"""Random loads, uses, unloads, evictions, crashes, TTLs and lost connections of several clients, with real engines.

Every watch is compared with the server's own history. For hours of it:
``pytest --hypothesis-profile=soak tests/lifecycle/test_watch_property.py``.
"""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from lmstudio_async.testing import ModelsFolder
from tests.lifecycle.history import Step, World, recorded
from tests.processes import needs_proc
from tests.soak import bounded

pytestmark = needs_proc

clients = st.integers(0, 2)
keys = st.sampled_from(["tiny", "other"])
few = st.integers(0, 5)
steps = st.one_of(
    st.tuples(
        st.just("load"), clients, keys, st.sampled_from(["mine", "tiny", None]), st.sampled_from([1800, None])
    ),
    st.tuples(st.just("get"), clients, keys),
    st.tuples(st.just("leave"), clients, keys, few),
    st.tuples(st.just("use"), clients, few),
    st.tuples(st.just("unload"), clients, few),
    st.tuples(st.just("unload by name"), clients, st.sampled_from(["mine", "tiny", "other"])),
    st.tuples(st.just("kill"), few),
)
#: Steps at the same time; or one that needs the others to be over.
bursts = st.lists(steps, min_size=1, max_size=3) | st.sampled_from(
    [[("pass",)], [("lose", 0)], [("lose", 1)]]
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    models = ModelsFolder(tmp_path_factory.mktemp("models") / "models")
    models.add_llm("acme/tiny-GGUF/tiny-Q4_K_M.gguf")
    models.add_llm("acme/other-GGUF/other-Q8_0.gguf")
    return models.folder


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(bounded(12), phases=[Phase.explicit, Phase.generate])
@given(plan=st.lists(st.tuples(bursts, st.booleans()), min_size=3, max_size=10))
def test_every_watch_agrees_with_the_history_of_the_server(
    backend: str, models: Path, plan: list[tuple[list[Step], bool]]
) -> None:
    async def run() -> None:
        async with World.made(models) as world:
            for burst, settles in plan:
                await world.run(burst)
                if settles:
                    await world.settle()
            await world.check()

    with recorded():
        anyio.run(run, backend=backend)

"""Embeddings of 768 numbers: one, and a hundred in one call of the SDK."""

from __future__ import annotations

from typing import Any

from benchmarks.meter import Meter

TEXTS = ["What is the meaning of life?"] * 100
ONES = 100


async def measure_async(lms: Any, host: str) -> dict[str, float]:
    async with lms.AsyncClient(host) as client:
        model = await client.embedding.model("tiny")
        await model.embed(TEXTS)
        with Meter(ONES) as one:
            for text in TEXTS:
                await model.embed(text)
        with Meter(3) as hundred:
            for _ in range(3):
                assert len((await model.embed(TEXTS))[99]) == 768
    return one.figures("one") | hundred.figures("hundred")


def measure_sync(lms: Any, host: str) -> dict[str, float]:
    with lms.Client(host) as client:
        model = client.embedding.model("tiny")
        model.embed(TEXTS)
        with Meter(ONES) as one:
            for text in TEXTS:
                model.embed(text)
        with Meter(3) as hundred:
            for _ in range(3):
                assert len(model.embed(TEXTS)[99]) == 768
    return one.figures("one") | hundred.figures("hundred")

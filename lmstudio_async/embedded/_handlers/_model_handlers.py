"""Endpoints that ``llm`` and ``embedding`` share (load, unload and inspect models, tokenize), and ``embedString``."""

from __future__ import annotations

from lmstudio_async._protocol._errors import server_error
from lmstudio_async._wire._infos import AnyInstanceInfo
from lmstudio_async._wire._kv import to_fields
from lmstudio_async._wire._models import (
    AlreadyLoaded,
    GetModelInfoParameter,
    GetOrLoadCreation,
    LoadModelCreation,
    LoadSuccess,
    ModelSpecifier,
    SpecifierParameter,
    Success,
    UnloadModelParameter,
)
from lmstudio_async._wire._predict import KvConfig
from lmstudio_async._wire._struct import WireObject, read
from lmstudio_async._wire._texts import (
    Embedding,
    EmbedStringParameter,
    InputStringParameter,
    TokenCount,
    Tokens,
)
from lmstudio_async._wire._usage import EstimateModelUsageParameter, ModelUsage, ProcessingState
from lmstudio_async.embedded._connections._connection import Channel
from lmstudio_async.embedded._instances._instance import Domain, Instance
from lmstudio_async.embedded._instances._memory_estimate import estimate
from lmstudio_async.embedded._instances._registry import Instances
from lmstudio_async.errors import LMStudioInstanceUnloadedError, LMStudioModelNotFoundError

__all__ = ["EmbeddingHandlers", "ModelHandlers"]


class ModelHandlers:
    """The endpoints that ``llm`` and ``embedding`` share."""

    domain: Domain

    def __init__(self, instances: Instances) -> None:
        self._instances = instances

    async def load_model(self, creation: LoadModelCreation, channel: Channel) -> None:
        with channel.cancellable():
            instance = await self._instances.load(self.domain, creation, channel.post)
            channel.post(Success(info=instance.info()))
            return
        raise server_error("Model load was cancelled.")

    async def get_or_load(self, creation: GetOrLoadCreation, channel: Channel) -> None:
        found = False

        def report(packet: WireObject) -> None:
            nonlocal found
            found = found or isinstance(packet, AlreadyLoaded)
            channel.post(packet)

        with channel.cancellable():
            instance = await self._instances.get_or_load(self.domain, creation, report)
            if not found:
                channel.post(LoadSuccess(info=instance.info()))
            return
        raise server_error("Model load was cancelled.")

    async def unload_model(self, parameter: UnloadModelParameter) -> None:
        _refuse_other_devices(parameter.device_identifier)
        await self._instances.unload(parameter.identifier, self.domain)

    async def list_loaded(self, _: None) -> list[AnyInstanceInfo]:
        return [instance.info() for instance in self._instances.loaded(self.domain)]

    async def get_model_info(self, parameter: GetModelInfoParameter) -> AnyInstanceInfo | None:
        try:
            return self._find(parameter.specifier).info()
        except (LMStudioModelNotFoundError, LMStudioInstanceUnloadedError):
            if parameter.throw_if_not_found:
                raise
            return None

    async def get_load_config(self, parameter: SpecifierParameter) -> KvConfig:
        return read(KvConfig, to_fields(self._find(parameter.specifier).config))

    async def get_base_prediction_config(self, parameter: SpecifierParameter) -> KvConfig:
        self._find(parameter.specifier)
        return KvConfig()

    async def get_instance_processing_state(self, parameter: GetModelInfoParameter) -> ProcessingState:
        return self._find(parameter.specifier).processing_state()

    async def estimate_model_usage(self, parameter: EstimateModelUsageParameter) -> ModelUsage:
        _refuse_other_devices(parameter.device_identifier)
        load = await self._instances.prepare(self.domain, parameter.model_key, parameter.load_config_stack)
        return estimate(load.entry, load.plan.spec)

    async def tokenize(self, parameter: InputStringParameter) -> Tokens:
        # The input of an embedding model has special tokens around the text; the input of an LLM has none.
        special = self.domain == "embedding"
        return Tokens(tokens=await self._tokens(parameter, add_special=special))

    async def count_tokens(self, parameter: InputStringParameter) -> TokenCount:
        return TokenCount(token_count=len(await self._tokens(parameter, add_special=False)))

    async def _tokens(self, parameter: InputStringParameter, *, add_special: bool) -> list[int]:
        instance = self._find(parameter.specifier)
        with instance.use() as use:
            async with instance.lend(use) as engine:
                return await engine.tokenize(parameter.input_string, add_special=add_special)

    def _find(self, specifier: ModelSpecifier) -> Instance:
        return self._instances.find(specifier, self.domain)


class EmbeddingHandlers(ModelHandlers):
    """The endpoints of ``embedding``."""

    domain: Domain = "embedding"

    async def embed_string(self, parameter: EmbedStringParameter) -> Embedding:
        instance = self._find(parameter.model_specifier)
        with instance.use("computingEmbedding") as use:
            async with instance.lend(use) as engine:
                return Embedding(embedding=await engine.embed(parameter.input_string))


def _refuse_other_devices(device_identifier: str | None) -> None:
    if device_identifier is not None:
        raise server_error(
            f'There is no device "{device_identifier}": this server runs models on its own machine only.',
            "Leave the device identifier out.",
        )

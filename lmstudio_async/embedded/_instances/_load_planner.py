"""Preparation of a load: the model of its key, the settings of its config, and its draft model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import anyio.to_thread
import attrs

from lmstudio_async._protocol._errors import domain_mismatch
from lmstudio_async._wire._kv import collapse
from lmstudio_async.embedded._catalog._catalog import Catalog, CatalogEntry
from lmstudio_async.embedded._instances._draft import find_draft
from lmstudio_async.embedded._instances._instance import Domain, Instance
from lmstudio_async.embedded._instances._load_config import LoadPlan, draft_model_key, plan_load
from lmstudio_async.errors import LMStudioModelNotFoundError

__all__ = ["LoadPlanner", "PreparedLoad", "ResolvedModel"]


@attrs.frozen
class ResolvedModel:
    """The model that a key means.

    :param ambiguous: the keys of all models that match the key; None if there is only one.
    """

    entry: CatalogEntry
    ambiguous: list[str] | None = None


@attrs.frozen
class PreparedLoad:
    """A load that can start under any free identifier."""

    model: ResolvedModel
    plan: LoadPlan

    @property
    def entry(self) -> CatalogEntry:
        """The model to load."""
        return self.model.entry


class LoadPlanner:
    """Prepares the loads of one server. It changes nothing, and every method may wait for files to be read.

    :param catalog: the models that can be loaded.
    :param by_identifier: the instances of the server, for the error about a key that names one of another namespace.
    :param threads: the threads of an engine, if the load config has no number; None for the engine's own default.
    """

    def __init__(
        self, catalog: Catalog, by_identifier: Mapping[str, Instance], *, threads: int | None
    ) -> None:
        self._catalog = catalog
        self._by_identifier = by_identifier
        self._threads = threads

    async def prepare(self, key: str, domain: Domain, config_stack: Any) -> PreparedLoad:
        """Resolve the key of a model, and plan its load; see :meth:`resolve` and :meth:`plan`."""
        return await self.plan(await self.resolve(key, domain), config_stack)

    async def resolve(self, key: str, domain: Domain) -> ResolvedModel:
        """Find the downloaded model that a key means.

        :raises LMStudioModelNotFoundError: no model has this key.
        :raises LMStudioDomainMismatchError: the key names a model or an instance of the other namespace.
        """
        try:
            return ResolvedModel(*await anyio.to_thread.run_sync(self._catalog.resolve, key, domain))
        except LMStudioModelNotFoundError:
            instance = self._by_identifier.get(key)
            if instance is not None and instance.domain != domain:
                raise domain_mismatch(key, instance.domain, domain) from None
            raise

    async def plan(self, model: ResolvedModel, config_stack: Any) -> PreparedLoad:
        """Find the draft model that a load config names, and turn the config into a load plan.

        :param config_stack: the layers of the load config.
        :raises LMStudioServerError: the model cannot be loaded with this config, or with this draft model.
        """
        entry, values = model.entry, collapse(config_stack)
        draft_key = draft_model_key(values) if entry.type == "llm" else None
        draft = None if draft_key is None else await find_draft(self._catalog, entry, draft_key)
        return PreparedLoad(model, plan_load(entry, values, draft=draft, threads=self._threads))

"""Loaded instances as the rows of a table, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from lmstudio_async._cli._console import Column, is_narrow
from lmstudio_async._cli._units import duration_text, size_text

if TYPE_CHECKING:
    from lmstudio_async import InstanceStatus
    from lmstudio_async._cli._target import Target

__all__ = ["COLUMNS", "as_json", "nothing_loaded", "rows", "status_text"]

COLUMNS = (
    Column("IDENTIFIER"),
    Column("MODEL"),
    Column("STATUS"),
    Column("SIZE", is_number=True),
    Column("CONTEXT", is_number=True),
    Column("UNLOADS IN"),
    Column("DEVICE"),
)

_STATUS = {"processingPrompt": "reading prompt", "computingEmbedding": "embedding"}


def nothing_loaded(target: Target) -> str:
    """Return the text in place of a table without rows.

    :param target: the server as the user has named it, for the advice.
    """
    return f"Nothing is loaded. To load a model: {target.line('load', 'KEY')}"


def rows(instances: Iterable[InstanceStatus[Any]], width: int | None) -> Sequence[Sequence[str]]:
    """Return the cells of some instances.

    :param width: columns of the terminal; None in a pipe. In a narrow terminal, a model key that is the identifier too is
        left out, because both would take several lines.
    """
    return [_row(instance, width) for instance in instances]


def _row(instance: InstanceStatus[Any], width: int | None) -> Sequence[str]:
    is_repeated = instance.model_key == instance.identifier
    return (
        instance.identifier,
        "" if is_repeated and is_narrow(width) else instance.model_key,
        status_text(instance.status, instance.queued, instance.prompt_progress),
        size_text(instance.size_bytes),
        str(instance.context_length),
        _unloads_in(instance),
        instance.device or "",
    )


def as_json(instance: InstanceStatus[Any]) -> dict[str, Any]:
    """Return the fields of an instance."""
    names = (
        "kind identifier model_key instance_reference status prompt_progress queued ttl idle_seconds unloads_in "
        "context_length size_bytes device"
    )
    return {name: getattr(instance, name) for name in names.split()}


def status_text(status: str | None, queued: int, prompt_progress: float | None = None) -> str:
    """Return a status and the length of the queue as text: ``reading prompt 45% +2``; empty if it is not known."""
    if status is None:
        return ""
    text = _STATUS.get(status, status)
    if prompt_progress is not None:
        text += f" {prompt_progress:.0%}"
    return f"{text} +{queued}" if queued else text


def _unloads_in(instance: InstanceStatus[Any]) -> str:
    if instance.ttl is None:
        return "never"
    if instance.status not in ("idle", None):
        return f"when idle for {duration_text(instance.ttl)}"
    if instance.unloads_in is None:
        # It had no request yet, and LM Studio's protocol does not tell when it was loaded.
        return f"{duration_text(instance.ttl)} or less"
    return duration_text(instance.unloads_in)

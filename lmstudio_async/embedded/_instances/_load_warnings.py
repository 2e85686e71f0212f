"""Warnings in the log of a load, about settings that do not do what the request may expect of them."""

from __future__ import annotations

import logging

from lmstudio_async._printable import printable
from lmstudio_async.embedded._instances._instance import Instance
from lmstudio_async.embedded._instances._load_config import LoadPlan

__all__ = ["warn_of_load"]

logger = logging.getLogger("lmstudio_async.embedded")


def warn_of_load(instance: Instance, plan: LoadPlan, *, has_gpu: bool) -> None:
    """Log what the settings of a load have come to, as far as that is not what they say.

    :param instance: the loaded instance.
    :param has_gpu: whether its engine has a GPU.
    """
    name = printable(instance.identifier)
    if plan.asks_for_gpu and not has_gpu:
        logger.warning(
            "%s was to use a GPU, but the engine finds none, so all of it runs on the CPU: the driver is missing, or "
            "the installed engine was built without support for this GPU (see the section on GPUs of the README)",
            name,
        )
    if plan.spec.rope_extension is not None:
        logger.warning(
            "%r has a context of %d tokens, and its model was made for %d: its answers may get worse",
            name,
            instance.context_length,
            instance.entry.max_context_length,
        )

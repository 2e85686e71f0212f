"""Checks of the places in which the embedded server finds models."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from lmstudio_async import EmbeddedServer
from lmstudio_async._cli._checks._check import Check, Status, in_daemon_thread
from lmstudio_async._cli._checks._environment import disk_check
from lmstudio_async._cli._download_advice import small_model_advice
from lmstudio_async._cli._run import message_of
from lmstudio_async._cli._target import EMBEDDED, Target
from lmstudio_async.embedded import FoundModel, ModelsScan
from lmstudio_async.errors import LMStudioError

__all__ = ["models_checks"]

_SCAN_SECONDS: Final = 30.0
_DISK_SECONDS: Final = 5.0
#: Number of skipped files that have a line of their own.
_MOST_SKIPPED: Final = 20


async def models_checks(target: Target, *, is_needed: bool) -> list[Check]:
    """Check the models of the embedded server, the skipped files, and the disk.

    :param is_needed: whether the commands use the embedded server.
    """
    name = "Models folder"
    try:
        server, scan = await in_daemon_thread(_SCAN_SECONDS, _scan, target.models)
    except TimeoutError:
        text = f"the models cannot be listed within {_SCAN_SECONDS:g} seconds"
        remedy = "A network drive may not answer: name another folder with --models."
        return [Check(name, "problem" if is_needed else "note", text, remedy)]
    except (LMStudioError, OSError) as error:
        return [Check(name, "problem", message_of(error), "Correct --models.")]
    checks = _place_checks(server, scan.models)
    if not scan.models:
        status: Status = "problem" if is_needed else "note"
        # Without the option, the command would download to the server that the commands use.
        advice = small_model_advice(target if is_needed else Target(EMBEDDED), EMBEDDED)
        checks.append(Check("Models", status, "the embedded server has no models", advice))
    checks += _skipped_checks(scan.skipped)
    if (folder := server.models_folder) is not None:
        try:
            checks.append(await in_daemon_thread(_DISK_SECONDS, disk_check, folder))
        except OSError as error:
            text = f"{folder}: {error.strerror or 'the disk does not answer'}"
            checks.append(Check("Disk", "note", text))
    return checks


def _scan(models: Sequence[Path] | None) -> tuple[EmbeddedServer, ModelsScan]:
    server = EmbeddedServer(models or None)
    return server, server.scan_models()


def _place_checks(server: EmbeddedServer, found: Sequence[FoundModel]) -> list[Check]:
    checks = [_place_check(place, _keys_below(place, found)) for place in server.models]
    if (cache := server.hub_cache) is not None:
        keys = _keys_below(cache, found)
        text = f"{cache}: {_count(keys)}" if cache.is_dir() else f"{cache}: there is none"
        details = {"path": str(cache), "models": keys}
        checks.append(Check("Hugging Face cache", "ok", text, details=details))
    return checks


def _keys_below(place: Path, found: Sequence[FoundModel]) -> Sequence[str]:
    """Return the keys of the models in a folder, or of the model that a file is."""
    # The folder may be a link, and the server finds the files where it leads to.
    places = {place, Path(os.path.realpath(place))}
    return [each.model_key for each in found if places.intersection((each.file, *each.file.parents))]


def _place_check(place: Path, keys: Sequence[str]) -> Check:
    name = "Model file" if place.is_file() else "Models folder"
    details = {"path": str(place), "models": keys}
    if not place.exists():
        return Check(
            name, "ok", f"{place}: does not exist yet, and is made when it is needed", details=details
        )
    if place.is_dir() and not os.access(place, os.W_OK):
        text = f"{place}: {_count(keys)}; this user may not write there, so downloads fail"
        return Check(name, "note", text, "Change its permissions, or use another folder.", details)
    return Check(name, "ok", f"{place}: {_count(keys)}", details=details)


def _count(keys: Sequence[str]) -> str:
    return "no models" if not keys else f"{len(keys)} {'model' if len(keys) == 1 else 'models'}"


def _skipped_checks(skipped: Mapping[str, str]) -> list[Check]:
    checks = [
        Check("Skipped file", "note", f"{path}: {reason}", details={"path": path, "reason": reason})
        for path, reason in list(skipped.items())[:_MOST_SKIPPED]
    ]
    rest = dict(list(skipped.items())[_MOST_SKIPPED:])
    if rest:
        checks.append(Check("Skipped file", "note", f"and {len(rest)} more", details={"skipped": rest}))
    return checks

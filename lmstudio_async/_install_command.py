"""Commands that install what this package lacks, in the form that works for this installation."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal

__all__ = ["install_command", "missing_modules", "pull_command", "shell_line"]

_DISTRIBUTION: Final = "lmstudio-async"

#: Extra -> the modules that it installs and that have no other use here.
_MODULES: Final = {
    "cli": ("prompt_toolkit", "rich", "typer"),
    "embedded": ("starlette", "uvicorn", "xllamacpp"),
    "hub": ("huggingface_hub",),
    "trio": ("trio",),
}

#: A small model of each kind, for advice to readers who have named none.
_SMALL_MODELS: Final = {
    "llm": "bartowski/SmolLM2-135M-Instruct-GGUF",
    "embedding": "nomic-ai/nomic-embed-text-v1.5-GGUF",
}
_PLAIN_NAME: Final = re.compile(r"[\w./@:-]{1,200}", re.ASCII)
#: A word that no shell changes.
_PLAIN_WORD: Final = re.compile(r"[\w./@:,+=-]+", re.ASCII)
#: Characters that have a meaning for a shell within double quotes.
_SPECIAL: Final = re.compile(r'["$`\\!]')


def missing_modules(*extras: str) -> list[str]:
    """Return the modules of some extras that are not installed. Blocks: looks for them on the disk."""
    return [name for extra in extras for name in _MODULES[extra] if find_spec(name) is None]


def install_command(*extras: str) -> str:
    """Return the command that adds some extras to this installation. The first call blocks: it reads files.

    The package may have been installed from an index, from a clone, from an archive or from a repository, or not at
    all. The command takes it from the same place, because no other place is certain to have it.
    """
    names = f"[{','.join(extras)}]"
    installer, form = _origin()
    return f"{installer} {form.replace('[]', names)}"


def pull_command(
    model: str | None = None,
    kind: Literal["llm", "embedding"] = "llm",
    options: Iterable[str] = (),
    *,
    extras: Sequence[str] = ("cli", "embedded", "hub"),
) -> str:
    """Return the command that downloads a model, or the one that installs it. Blocks: looks for modules on the disk.

    :param model: the model key that was requested; None, or a text that is none, for a small model.
    :param kind: the kind of the small model.
    :param options: options of the command, and their values.
    :param extras: the extras that the command needs: for a download by another server, only ``cli``.
    """
    if missing_modules(*extras):
        return install_command(*extras)
    # A key that begins with a dash would be an option.
    is_name = model is not None and _PLAIN_NAME.fullmatch(model) and not model.startswith("-")
    return shell_line(["lmsa", "pull", model if is_name and model else _SMALL_MODELS[kind], *options])


def shell_line(words: Iterable[str]) -> str:
    """Return the line for a shell that has some words."""
    return " ".join(word if _PLAIN_WORD.fullmatch(word) else _quoted(word) for word in words)


@cache
def _origin() -> tuple[str, str]:
    """Return the installer of this package, and the argument for it, with ``[]`` in the place of the extras."""
    from importlib.metadata import PackageNotFoundError, distribution

    here = Path(__file__).parent.parent
    try:
        found = distribution(_DISTRIBUTION)
        direct_url, installer = found.read_text("direct_url.json"), found.read_text("INSTALLER")
    except PackageNotFoundError:
        direct_url = json.dumps({"url": here.as_uri(), "dir_info": {}})
        installer = None
    command = "uv pip install" if (installer or "").strip() == "uv" else "pip install"
    try:
        origin = json.loads(direct_url or "null")
    except ValueError:
        origin = None
    # Without a recorded origin, the package comes from an index.
    return command, _argument(origin) if isinstance(origin, dict) else f'"{_DISTRIBUTION}[]"'


def _argument(origin: dict[str, Any]) -> str:
    """Return the argument for a recorded origin; see the specification "Recording the Direct URL Origin"."""
    url = str(origin.get("url", ""))
    if isinstance(version_control := origin.get("vcs_info"), dict):
        revision = version_control.get("requested_revision") or version_control.get("commit_id")
        address = f"{version_control.get('vcs')}+{url}" + (f"@{revision}" if revision else "")
        return _quoted(f"{_DISTRIBUTION}[] @ {address}{_subdirectory(origin)}")
    if not url.startswith("file:"):
        return _quoted(f"{_DISTRIBUTION}[] @ {url}{_subdirectory(origin)}")
    path = _path(url)
    if isinstance(folder := origin.get("dir_info"), dict):
        if (path / "pyproject.toml").is_file():
            return ("--editable " if folder.get("editable") else "") + _quoted(f"{path}[]")
    elif path.is_file():
        return _quoted(f"{path}[]")
    # The place does not exist any more, or never had the sources.
    return f'".[]" in a clone of {_DISTRIBUTION}'


def _subdirectory(origin: dict[str, Any]) -> str:
    return f"#subdirectory={origin['subdirectory']}" if origin.get("subdirectory") else ""


def _path(url: str) -> Path:
    from urllib.parse import urlsplit
    from urllib.request import url2pathname

    return Path(url2pathname(urlsplit(url).path))


def _quoted(text: str) -> str:
    """Quote a text for a shell: double quotes work in all of them, as long as no character is special in these."""
    if sys.platform == "win32" or not _SPECIAL.search(text):
        return f'"{text}"'
    from shlex import quote

    return quote(text)

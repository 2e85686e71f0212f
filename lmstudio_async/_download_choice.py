"""Choice of a download: the model that a name means, among downloaded models, search results and download options.

Without I/O. A name is a repository of the Hub, its URL, one of its files, or the name of a model; each may have a
quantization at its end, as in ``owner/repo:Q4_K_M``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lmstudio_async._arguments import check_name
from lmstudio_async._model_keys import is_key_of
from lmstudio_async.errors import LMStudioModelNotFoundError, LMStudioValueError

if TYPE_CHECKING:
    from lmstudio_async._wire._infos import ModelInfo
    from lmstudio_async._wire._repository import DownloadOption, SearchResult

__all__ = ["DownloadName", "choose_option", "choose_result", "not_found"]

#: Names that an error lists.
_MOST_NAMES = 10

_EMBEDDING_PREFIX = "text-embedding-"
_HUB = re.compile(r"(?:https?://)?(?:www\.)?(?:huggingface\.co|hf\.co)/", re.IGNORECASE)
_QUANTIZATION = re.compile(
    r"(?:ud-)?(?:i?q|tq|bf|fp?|mx|nv)\d\w*|(?:mx|nv)fp\d\w*|\d{1,2}-?bits?", re.IGNORECASE
)


class DownloadName(NamedTuple):
    """The model that the name of a download means. `parse` reads one.

    :param name: ``owner/repo``, or the name of a model.
    :param quantization: a quantization, or the name of a file; None for the one that the server recommends.

    ::

        wanted = DownloadName.parse("bartowski/SmolLM2-360M-Instruct-GGUF:Q4_K_M")
        downloaded = await client.system.list_downloaded_models()
        print(wanted.quantization, wanted.key_among([model.info for model in downloaded]))
    """

    name: str
    quantization: str | None = None

    @classmethod
    def parse(cls, name: str, quantization: str | None = None) -> DownloadName:
        """Read a name, by the rules of `AsyncRepositoryNamespace.download`.

        :param name: a repository of the Hub, ``owner/repo`` or its URL, one of its files, or the name of a model. A
            quantization may follow, as in ``owner/repo:Q4_K_M``.
        :param quantization: the quantization, if it is not a part of the name.
        :return: the model that the name means.
        :raises LMStudioValueError: if the name is no text or has none, or there are two quantizations.
        """
        text = _HUB.sub("", check_name(name, "the name of the model").strip(), count=1).strip("/")
        if quantization is not None:
            quantization = check_name(quantization, "quantization").strip()
        owner, _, rest = text.partition("/")
        repository, _, file = rest.partition("/")
        bare, _, tag = repository.partition("@") if "@" in repository else repository.partition(":")
        if not rest:
            bare, _, tag = owner.partition("@") if "@" in owner else owner.partition(":")
            if tag not in ("", "latest") and not _QUANTIZATION.fullmatch(tag):
                # A tag of Ollama, such as "qwen3:0.6b": there it is a part of the name.
                bare, tag = f"{bare}-{tag}", ""
        # The pages of a repository, and of its files.
        file = re.sub(r"^(?:tree|blob|resolve)/[^/]+/?", "", file)
        parts = [each for each in (file, "" if tag == "latest" else tag, quantization) if each]
        if len({_folded(each) for each in parts}) > 1:
            raise LMStudioValueError(
                f"{name!r:.200} and the quantization {quantization or tag!r} say different things: name it once"
            )
        if not bare or (rest and not owner):
            raise LMStudioValueError(f"{name!r:.200} is not the name of a model or of a repository")
        return cls(f"{owner}/{bare}" if rest else bare, parts[0] if parts else None)

    @property
    def is_repository(self) -> bool:
        """Whether the name has an owner."""
        return "/" in self.name

    @property
    def search_term(self) -> str:
        """The text to search for: the name, without the beginning that only the keys of embedding models have."""
        return self.name.removeprefix(_EMBEDDING_PREFIX)

    def key_among(self, downloaded: Iterable[ModelInfo]) -> str | None:
        """Return the key of the downloaded model that the name means. A download of the name would return it as well.

        :param downloaded: the infos of the downloaded models. Models of other devices do not count.
        :return: the key; None if the model is not among them.
        """
        here = [info for info in downloaded if info.device_identifier is None]
        for info in sorted(here, key=lambda info: _folded(info.model_key) != _folded(self.name)):
            if not is_key_of(self.name, info):
                continue
            if self.quantization is None:
                return info.model_key
            for variant in info.variants or ():
                if _folded(variant.rpartition("@")[2]) == _folded(self.quantization):
                    return variant
            if _is_file(self.quantization, info.path) or (
                info.quantization is not None
                and _is_quantization(self.quantization, info.quantization.name, info.path)
            ):
                return info.model_key
        return None

    def is_name_of(self, result: SearchResult) -> bool:
        """Return whether a search result has this name: with its owner, if this name has one.

        :param result: `AsyncAvailableModel.search_result`.
        :return: whether the names are the same. ``-GGUF`` at the end does not count.
        """
        name, found = _plain(self.search_term), [_plain(result.name), _plain(result.identifier.identifier)]
        return name in found or (
            not self.is_repository and name in [each.rpartition("/")[2] for each in found]
        )

    def __str__(self) -> str:
        return self.name if self.quantization is None else f"{self.name}:{self.quantization}"


def choose_result(wanted: DownloadName, results: Sequence[SearchResult]) -> SearchResult | None:
    """Return the search result that a name means: the first one of this name.

    The embedded server lists the most downloaded ones first.

    :return: the result; None if none has the name.
    """
    named = (result for result in results if wanted.is_name_of(result))
    return next(named, None) or next((result for result in results if result.exact), None)


def not_found(wanted: DownloadName, results: Sequence[SearchResult]) -> LMStudioModelNotFoundError:
    """Make the error for a name that no model to download has.

    :param results: results of a search for the name.
    """
    names = list(dict.fromkeys(result.identifier.identifier or result.name for result in results))
    if names:
        remedy = f"Name one of those that a search finds: {_listed(names)}"
    else:
        remedy = (
            "A search finds nothing either: search with fewer words, client.repository.search_models(...)."
        )
    return LMStudioModelNotFoundError(
        f'There is no model "{wanted.name}" to download.\n{remedy}', {"title": f"No model {wanted.name!r}"}
    )


def choose_option(wanted: DownloadName, options: Sequence[DownloadOption]) -> DownloadOption:
    """Return the download option of the wanted quantization, or the one that the server recommends.

    :raises LMStudioModelNotFoundError: there is no such option, several are meant, or none fits the memory.
    """
    if wanted.quantization is None:
        fitting = [option for option in options if option.fit_estimation != "willNotFit"]
        best = next((option for option in options if option.recommended), None)
        if best is None and len(fitting) == 1:
            best = fitting[0]
        if best is not None:
            return best
        problem = (
            "the server recommends none of its models"
            if fitting
            else "no model of it fits the memory of the server's machine"
            if options
            else "it has no model that the server can load"
        )
        raise _no_option(f'"{wanted.name}" is not downloaded, because {problem}.', options)
    found = _matching(wanted.quantization, options)
    if len(found) > 1:
        found = [option for option in found if option.recommended] or found
    if len(found) == 1:
        return found[0]
    if found:
        problem = f'"{wanted}" means several models. Take the name of one as the quantization.'
        raise _no_option(problem, found)
    raise _no_option(f'There is no {wanted.quantization} of "{wanted.name}".', options)


def _matching(quantization: str, options: Sequence[DownloadOption]) -> list[DownloadOption]:
    by_file = [
        option
        for option in options
        if _is_file(quantization, option.indexed_model_identifier)
        or _folded(option.name) == _folded(quantization)
    ]
    return by_file or [
        option
        for option in options
        if option.quantization is not None
        and _is_quantization(
            quantization, option.quantization, option.name or option.indexed_model_identifier
        )
    ]


def _no_option(problem: str, options: Sequence[DownloadOption]) -> LMStudioModelNotFoundError:
    names = [_described(option) for option in options]
    there_are = f"\nThere are: {_listed(names)}" if names else ""
    return LMStudioModelNotFoundError(f"{problem}{there_are}", {"title": problem})


def _described(option: DownloadOption) -> str:
    name = option.quantization or option.name
    if option.quantization and _is_dynamic(option.name, option.quantization):
        name = f"UD-{name}"
    size = option.size_bytes
    notes = [f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"] if size else []
    if option.recommended:
        notes.append("recommended")
    if option.fit_estimation == "willNotFit":
        notes.append("too large for this machine")
    return f"{name} ({', '.join(notes)})" if notes else name


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return ", ".join(names[:_MOST_NAMES]) + more


def _is_file(name: str, path: str) -> bool:
    """Return whether a text names a file, given its path below the models folder."""
    wanted, path = _folded(name), _folded(path)
    return wanted.endswith(".gguf") and (wanted == path or path.endswith(f"/{wanted}"))


def _is_quantization(wanted: str, quantization: str, place: str) -> bool:
    """Return whether a text means a quantization.

    :param place: name or path of the model. Unsloth's dynamic quantizations are known by it: ``-UD-Q4_K_XL``.
    """
    text = _folded(wanted)
    bare = text.removeprefix("ud-")
    if re.sub("^fp", "f", bare) != re.sub("^fp", "f", _folded(quantization).removeprefix("ud-")):
        return _bits(text) is not None and _bits(text) == _bits(_folded(quantization))
    return text.startswith("ud-") == _is_dynamic(place, quantization)


def _is_dynamic(place: str, quantization: str) -> bool:
    bare = _folded(quantization).removeprefix("ud-")
    return _folded(quantization).startswith("ud-") or f"ud-{bare}" in _folded(place)


def _bits(text: str) -> str | None:
    found = re.fullmatch(r"(\d{1,2})-?bits?", text)
    return found[1] if found else None


def _plain(name: str) -> str:
    """Return the name of a repository for comparison, without the name of the format at its end."""
    return re.sub(r"[\s_:@]+", "-", _folded(name)).removesuffix("-gguf")


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", text.strip()).lower()

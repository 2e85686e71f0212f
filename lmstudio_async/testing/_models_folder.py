"""A models folder with tiny models in it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from lmstudio_async.errors import LMStudioOSError, LMStudioValueError
from lmstudio_async.testing._chat_templates import CHATML
from lmstudio_async.testing._gguf_writer import Metadata
from lmstudio_async.testing._tiny_models import (
    BrokenKind,
    Script,
    different,
    write_broken,
    write_embedding,
    write_llm,
)
from lmstudio_async.testing._tiny_projector import write_projector

__all__ = ["ModelsFolder", "tool_call"]


class ModelsFolder:
    """A models folder as LM Studio has it, ``publisher/repository/file.gguf``, for tiny models.

    The models are real GGUF files, made in milliseconds, and the embedded server loads them with llama.cpp like any
    other. An LLM answers any prompt with its script, word by word, so that a test knows every answer.

    :param folder: path of the folder, which is created if it does not exist.
    :raises LMStudioOSError: if it cannot be created.

    ::

        models = ModelsFolder(tmp_path)
        models.add_llm("qwen3-4b", script="Hello there")
        models.add_llm("talker", script="on and on ", endless=True)  # for cancelling
        models.add_llm("slow", padding_mb=256)  # takes a moment to load
        models.add_llm(
            "tools",
            script=tool_call("add", a=1, b=2),  # the first answer of a conversation
            then=["The sum is 3."],  # its second one
            chat_template=HERMES,
        )
        models.add_llm("thinker", script="<think>Hm</think>Yes", chat_template=THINKING)
        models.add_llm("dice", script=None)  # random words, chosen by the seed
        models.add_embedding("embed", dimensions=16)
        models.add_llm("eye", script="A cat")
        models.add_projector("test/eye-GGUF/mmproj-eye-F16.gguf")  # the LLMs beside it accept images
        models.add_broken("broken", "missing tensor")  # its load fails

        async with EmbeddedServer(models.folder) as server, AsyncClient(server) as client:
            ...
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self._folder = Path(folder)
        try:
            # A server does not start without its folder, also if models are added only then.
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LMStudioOSError(
                f"The models folder {self._folder} cannot be created: {error.strerror or error}"
            ) from error

    @property
    def folder(self) -> Path:
        """Path of the folder."""
        return self._folder

    def add_llm(
        self,
        model: str,
        *,
        script: Script | None = "Hello there",
        then: Sequence[Script] = (),
        endless: bool = False,
        name: str = "Tiny",
        context_length: int = 2048,
        architecture: str = "llama",
        chat_template: str | None = CHATML,
        padding_mb: int = 0,
        blocks: int = 1,
        metadata: Metadata | None = None,
    ) -> Path:
        """Add an LLM that answers with its script.

        :param model: its model key, such as ``"qwen3-4b"``; or the path of the file in the folder,
            ``"qwen/qwen3-4b-GGUF/qwen3-4b-Q4_K_M.gguf"``.
        :param script: its answer. A text is split into words; to choose the fragments yourself, give the pieces, all
            different and each longer than a byte. None: random words, chosen by temperature and seed; with a JSON
            schema, the shortest answers that the schema allows (give its strings a ``maxLength``, which ends them).
        :param then: its second, third, ... answer in a conversation, instead of the script again.
        :param endless: begin again at the end of the script (or of the random words), and never stop.
        :param name: its name for people.
        :param context_length: the longest context that it claims to be trained for, in tokens.
        :param architecture: an architecture with the same tensors as ``llama``, such as ``qwen2`` or ``smollm3``.
        :param chat_template: ``CHATML``, ``HERMES`` (tools), ``THINKING`` (reasoning), your own in Jinja, or None for
            a base model. The scripts of ``then`` need one of the three.
        :param padding_mb: MiB to add to the file, so that loading it takes a while. The padding takes no disk space if
            the file system has sparse files.
        :param blocks: number of its layers.
        :param metadata: more metadata, or other values for some; see the GGUF specification.
        :return: the file.
        :raises LMStudioValueError: if ``model`` is neither a model key nor the path of a file in the folder, or the
            scripts cannot be split into different pieces.
        """
        return write_llm(
            self._place(model),
            script=script,
            then=then,
            endless=endless,
            name=name,
            context_length=context_length,
            architecture=architecture,
            chat_template=chat_template,
            padding_mb=padding_mb,
            blocks=blocks,
            metadata=metadata,
        )

    def add_embedding(
        self,
        model: str,
        *,
        dimensions: int = 16,
        name: str = "Tiny Embed",
        context_length: int = 512,
        metadata: Metadata | None = None,
    ) -> Path:
        """Add an embedding model: different texts get different vectors, also the same words in another order.

        :param model: its model key, or the path of the file in the folder.
        :param dimensions: the length of a vector; an even number.
        :param name: its name for people.
        :param context_length: the longest text, in tokens; a token is an ASCII character.
        :param metadata: more metadata, or other values for some; see the GGUF specification.
        :return: the file.
        :raises LMStudioValueError: if ``model`` is neither a model key nor the path of a file in the folder.
        """
        return write_embedding(
            self._place(model),
            dimensions=dimensions,
            name=name,
            context_length=context_length,
            metadata=metadata,
        )

    def add_projector(self, path: str, *, metadata: Metadata | None = None) -> Path:
        """Add a projector, by which the LLMs beside it accept images. A scripted answer does not depend on the image.

        :param path: path of the file in the folder; its name begins with ``mmproj``.
        :param metadata: more metadata, or other values for some; see the GGUF specification.
        :return: the file.
        :raises LMStudioValueError: if ``path`` is not the path of a file in the folder.
        """
        return write_projector(self._place(path), metadata=metadata)

    def add_broken(self, model: str, kind: BrokenKind = "truncated") -> Path:
        """Add a file that no engine can load, although its name is that of a model.

        :param model: its model key if it were sound, or the path of the file in the folder.
        :param kind: ``"missing tensor"`` is listed, and its load fails. The server does not list the other kinds:
            ``"truncated"`` has a sound header and lacks the end of its tensors, as an unfinished download does;
            ``"cut in header"``, ``"no tensors"``, ``"empty"``, ``"bad magic"`` and ``"absurd counts"``.
        :return: the file.
        :raises LMStudioValueError: if ``model`` is neither a model key nor the path of a file in the folder.
        """
        return write_broken(self._place(model), kind)

    def _place(self, model: str) -> Path:
        is_path = model.endswith(".gguf")
        path = PurePosixPath(model if is_path else f"test/{model}-GGUF/{model}-Q4_K_M.gguf")
        if path.is_absolute() or ".." in path.parts or ("/" in model and not is_path):
            raise LMStudioValueError(
                f"{model!r} is neither a model key, such as 'qwen3-4b', nor the path of a file in a models folder, "
                "such as 'publisher/repository/file.gguf'"
            )
        place = self._folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        return place


def tool_call(name: str, /, **arguments: object) -> list[str]:
    """Return the script of a tool call, as a model with the ``HERMES`` template makes it.

    :param name: the tool's name.
    :param arguments: the arguments of the call, as JSON values.
    :return: a script for :meth:`ModelsFolder.add_llm`. The arguments come in several fragments.

    ::

        models = ModelsFolder(tmp_path)
        models.add_llm("tools", script=tool_call("add", a=1, b=2), then=["The sum is 3."], chat_template=HERMES)
    """
    head = f'<tool_call>\n{{"name": "{name}", "arguments": '
    body = json.dumps(arguments)
    # A few pieces, so that the arguments arrive in more than one fragment.
    third = max(2, len(body) // 3)
    return different(
        [head, *(body[i : i + third] for i in range(0, len(body), third)), "}\n</tool_call>"], set()
    )

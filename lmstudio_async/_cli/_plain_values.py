"""Values of options and arguments that need no conversion."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer

__all__ = ["pass_plain_values"]

_TEXTS = (str, str | None, list[str], list[str] | None)


def pass_plain_values(command: Any, function: Callable[..., None]) -> None:
    """Let the parameters of a command pass on values that need no conversion: absent ones, and texts.

    typer converts every value with pydantic, even the absent ones, and the import of pydantic takes longer than most
    commands.

    :param command: the command that typer has made.
    :param function: the function of which it was made.
    """
    texts = {name for name, hint in get_type_hints(function, include_extras=True).items() if _is_text(hint)}
    parameters_of = command.get_params

    def get_params(context: Any) -> Any:
        # The option --help is made here.
        parameters = parameters_of(context)
        for parameter in parameters:
            if not isinstance(parameter.process_value, partial):
                is_text = parameter.name in texts
                parameter.process_value = partial(_process, parameter, parameter.process_value, is_text)
        return parameters

    command.get_params = get_params


def _is_text(hint: Any) -> bool:
    if get_origin(hint) is not Annotated:
        return hint in _TEXTS
    kind, *details = get_args(hint)
    return kind in _TEXTS and all(getattr(each, "parser", None) is None for each in details)


def _process(
    parameter: Any, process: Callable[[Any, Any], Any], is_text: bool, context: Any, value: Any
) -> Any:
    """Return the value of a parameter, as its ``process_value`` does."""
    if value is None and not parameter.required:
        value = () if getattr(parameter, "multiple", False) or parameter.nargs == -1 else None
    elif not (is_text and (isinstance(value, str) or (isinstance(value, tuple) and value))):
        try:
            return process(context, value)
        except typer.BadParameter as error:
            # pydantic's words before a message of typer, which is a sentence by itself.
            error.message = error.message.removeprefix("Value error, ")
            raise
    return value if parameter.callback is None else parameter.callback(context, parameter, value)

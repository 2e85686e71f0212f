"""The modules that have no twin: the package itself, and the functions that use the default client."""

from __future__ import annotations

import ast
import re
import textwrap
from collections.abc import Mapping

from ._classes import Writer
from ._layout import WIDTH, assemble, do_not_edit, fold, order, split
from ._module import Method, Module
from ._prose import Prose
from ._rules import CONVENIENCE, CORE, FACADE, GenerateError, blocking

__all__ = ["convenience", "package", "twins"]


def convenience(modules: Mapping[str, Module], home: Mapping[str, str], prose: Prose) -> str:
    """Write the functions that use the default client."""
    imports: dict[str, set[str]] = {}
    typing_only: dict[str, set[str]] = {}
    heads, bodies = [], []
    origins: dict[str, None] = {}
    for name, (namespace, owner, method, example) in CONVENIENCE.items():
        (*overloads, node), writer, values = find_method(modules, home, prose, f"Async{owner}", method)
        for gathered, own in ((imports, writer.imports), (typing_only, writer.typing_only)):
            for module, names in own.items():
                gathered.setdefault(module, set()).update(names)
        writer.imports, writer.typing_only = imports, typing_only
        origins[f"{writer.module.name}.py"] = None
        for each in overloads:
            writer.need("typing", "overload")
            head = function_head(name, each, writer, values)
            heads.append(f"@overload {head}")
            bodies.append("\n".join(["@overload", *fold(f"{head} ...{writer.type_comment(each)}", 0)]))
        head = function_head(name, node, writer, values)
        call = f"return get_default_client().{namespace}{'.' if namespace else ''}{method}({writer.arguments(node.args)})"
        # The module has no function of this name.
        full_name = {"`load_new_instance`": f"`get_default_client().{namespace}.load_new_instance`"}
        docstring = prose(writer.module.docstring(node) or "", full_name)
        heads.append(head)
        if example:
            code = textwrap.indent(example, " " * 12)
            docstring = re.sub(r"::\n\n.*?\n(?=\s*\"\"\")", f"::\n\n{code}\n", docstring, flags=re.DOTALL)
        docstring = docstring.replace(f"client.{method}(", f"lms.{name}(")
        docstring = re.sub("^    ", "", docstring, flags=re.MULTILINE)
        bodies.append(
            "\n".join([*fold(head, 0), f"    {docstring}", *fold(without_callback_wrappers(call), 4)])
        )
    used = set(re.findall(r"\w+", "\n".join(heads)))
    imports, typing_only = (
        {module: names & used for module, names in gathered.items() if names & used}
        for gathered in (imports, typing_only)
    )
    imports[f"{FACADE}._default_client"] = {"get_default_client"}
    return assemble(
        "The functions that use the default client.",
        f"{CORE}/{' and '.join(origins)}",
        CONVENIENCE,
        imports,
        typing_only,
        [],
        bodies,
    )


def function_head(name: str, method: Method, writer: Writer, values: Mapping[str, str]) -> str:
    """Write the first line of a function: that of a method, without self, and with types for type variables."""
    parameters = ", ".join(writer.parameters(method.args)[1:])
    head = f"def {name}({parameters}) -> {writer.use(method.returns)}:"
    for variable, text in values.items():
        head = re.sub(rf"\b{variable}\b", text, head)
    return head


def without_callback_wrappers(call: str) -> str:
    """Pass callbacks on as they are, because the methods of the default client wrap them."""
    return re.sub(r'self\._bridge\.callback\("\w+", (\w+)\)', r"\1", call)


def find_method(
    modules: Mapping[str, Module], home: Mapping[str, str], prose: Prose, owner: str, method: str
) -> tuple[list[Method], Writer, dict[str, str]]:
    """Find a method in a class or its base.

    :return: its overloads and itself, a writer for its module, and the types that the base's type variables stand for.
    """
    module = modules[home[owner]]
    node = next(each for each in module.twins if each.name == owner)
    own = Writer(module, home, prose)
    if methods := [each for each in own.methods(node) if each.name == method]:
        return methods, own, {}
    base = node.bases[0]
    if not isinstance(base, ast.Subscript):
        raise GenerateError(f"{owner} has no {method}")
    found, writer, _ = find_method(modules, home, prose, ast.unparse(base.value), method)
    parent = next(each for each in writer.module.twins if each.name == ast.unparse(base.value))
    variables = next(
        split(writer.module.text(each.slice), ",") for each in parent.bases if isinstance(each, ast.Subscript)
    )
    # A base class needs quotes around names for type checkers only. An annotation does not.
    texts = [blocking(each).strip("\"'") for each in split(module.text(base.slice), ",")]
    values = dict(zip(variables, texts, strict=True))
    writer.imports, writer.typing_only = own.imports, own.typing_only
    own.use(base.slice)
    return found, writer, values


def package(init: Module, home: Mapping[str, str]) -> str:
    """Write the package's own module: every name of the core, and the names that only the facade has."""
    names = {blocking(name): name for name in init.public}
    places: dict[str, list[str]] = {}
    for name, of_the_core in names.items():
        if of_the_core in home:
            places.setdefault(home[of_the_core], []).append(name)
    places["_convenience"] = list(CONVENIENCE)
    places["_default_client"] = ["close_default_client", "configure_default_client", "get_default_client"]
    places["_timeouts"] = ["get_sync_api_timeout", "set_sync_api_timeout"]
    own = {name: f"{FACADE}.{module}" for module, found in places.items() for name in found}
    origins = {name: own.get(name) or init.origins[names[name]] for name in [*names, *own]}
    typed = sorted(origins, key=lambda name: (origins[name], order(name)))
    lines = [line for name in typed for line in export(origins[name], name)]
    return PACKAGE.format(note="\n".join(do_not_edit(f"{CORE}/__init__.py")), imports="\n".join(lines))


def export(origin: str, name: str) -> list[str]:
    """Write the import that makes a name public, as ruff would fold it."""
    line = f"    from {origin} import {name} as {name}"
    return (
        [line]
        if len(line) <= WIDTH
        else [f"    from {origin} import (", f"        {name} as {name},", "    )"]
    )


def twins(home: Mapping[str, str]) -> str:
    """Write the table of the core's classes and their twins."""
    rows = [f'    "{name}": "{blocking(name)}",' for name in sorted(home)]
    return "\n".join(
        [
            '"""Classes of the core, and their blocking twins in this package."""',
            "",
            *do_not_edit(f"{CORE}/__init__.py"),
            "",
            "from __future__ import annotations",
            "",
            '__all__ = ["TWINS"]',
            "",
            "TWINS = {",
            *rows,
            "}",
            "",
        ]
    )


PACKAGE = '''"""The blocking SDK for LM Studio: the features of `lmstudio_async`, for scripts, notebooks and threads.

::

    import lmstudio_sync as lms

    llm = lms.llm("llama-3.2-1b-instruct", ttl=3600)
    print(llm.respond("What is the meaning of life?"))

    with lms.Client() as client:
        second = client.llm.load_new_instance("llama-3.2-1b-instruct", "second-llama")
        second.unload()

The classes have the names of `lmstudio_async` without ``Async``, and the same methods without ``await``. Both packages
share configs, infos, errors and all other names without I/O. Each name is imported when it is first used.
"""

{note}

from __future__ import annotations

import atexit
import sys
from typing import TYPE_CHECKING

from lmstudio_async._lazy_exports import export_lazily

if TYPE_CHECKING or not export_lazily(__name__):
{imports}


def _close_all() -> None:
    bridge = sys.modules.get(f"{{__name__}}._bridge")
    if bridge is not None:
        bridge.close_all()


# Registered now, so that functions which users register later run before it, and may still use their clients.
atexit.register(_close_all)
'''

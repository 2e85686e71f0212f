"""Writes the blocking facade out of the text of the async core; `--check` says what is not as it would write it.

::

    python lmstudio_sync/_generate.py
    python lmstudio_sync/_generate.py --check

Both packages are read, neither is imported. For every public class ``AsyncX`` there is a class ``X`` in the module of
the same name, with the same methods, each of them one call over the bridge. Everything else is shared.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

CORE, FACADE = "lmstudio_async", "lmstudio_sync"
WIDTH = 110

#: Written by hand. All else in the package is generated.
BY_HAND = {"_bridge.py", "_default_client.py", "_facade.py", "_generate.py", "_loop.py", "_timeouts.py"}

#: What docstrings say of one world and not of the other. Each must be found somewhere.
PROSE = {
    "await it, iterate": "wait for it, iterate",
    "await its handle": "wait for its handle",
    "await its result": "wait for its result",
    "await the model's key": "wait for the model's key",
    "entered, iterated over or awaited": "entered, iterated over or waited for",
    "cancellation of\n    the task": "an\n    interrupt",
    "cancellation\n    of the task": "an interrupt",
    "from any task": "from any thread",
    "Enter it once; use it from any": "Use it from any",
    "so that ``stream = await model": "so that ``stream = model",
    "or a cancellation while waiting": "or an interrupt while waiting",
    "None, the\n        default, waits for ever; connecting always has a limit.": 'None\n        waits for ever; ``"default"`` is what `get_sync_api_timeout` says. Connecting always has a limit.\n    :param backend: the event loop of the background thread.',
}

#: Parameters that a constructor has here and not in the core, or otherwise.
CONSTRUCTOR = {
    "timeout": ('float | Literal["default"] | None', '"default"'),
    "backend": ('Literal["asyncio", "trio"]', '"asyncio"'),
}

#: Methods of the default client as functions: name -> namespace, class, method, example.
CONVENIENCE = {
    "llm": ("llm", "LlmNamespace", "model", 'llm = lms.llm("llama-3.2-1b-instruct", ttl=3600)'),
    "embedding_model": (
        "embedding",
        "EmbeddingNamespace",
        "model",
        'model = lms.embedding_model("nomic-embed-text-v1.5")',
    ),
    "list_loaded_models": ("", "Client", "list_loaded_models", ""),
    "list_downloaded_models": ("", "Client", "list_downloaded_models", ""),
    "prepare_image": ("", "Client", "prepare_image", ""),
}


Method: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef


class GenerateError(Exception):
    """The core has something that no rule here covers, or a rule covers nothing in the core."""


# -- names and prose


def blocking(text: str) -> str:
    """Give code or a name as it is without async."""
    text = re.sub(r"\basync (with|for|def)\b", r"\1", text)
    text = re.sub(r"\bawait ", "", text)
    text = re.sub(r"\((client(?:\.\w+)*\(\))\)\.", r"\1.", text)
    return re.sub(r"\bAsync(?=[A-Z])", "", text).replace("aclose", "close")


class Prose:
    """Translates docstrings, and remembers which rules were of use."""

    def __init__(self) -> None:
        self.unused = set(PROSE)

    def __call__(self, text: str) -> str:
        for old, new in PROSE.items():
            if old in text:
                self.unused.discard(old)
                text = text.replace(old, new)
        return blocking(text)


def order(name: str) -> tuple[int, str]:
    """Sort as ruff does: CONSTANTS, Classes, functions."""
    return (0 if name.isupper() and len(name) > 1 else 1 if name[:1].isupper() else 2, name)


# -- layout, as ruff has it


def fold(line: str, indent: int) -> list[str]:
    """Give a logical line as lines that are not too long, cut at brackets."""
    pad = " " * indent
    whole = re.sub(r"  # type: .*", "", line)
    if len(pad + whole) <= WIDTH or not (brackets := outer_brackets(whole)):
        return [pad + line]
    # Parameters are what a definition is cut at, whatever it returns; else the last bracket.
    opening, closing = brackets[0] if whole.startswith("def ") else brackets[-1]
    inside = whole[opening + 1 : closing]
    parts = split(inside, ",")
    lines = [pad + whole[: opening + 1]]
    if len(parts) == 1 and whole.startswith("def "):
        lines += fold(f"{inside},", indent + 4)
    elif len(pad) + 4 + len(inside) <= WIDTH:
        lines.append(f"{pad}    {inside}")
    elif len(parts) > 1:
        lines += [each for part in parts for each in fold(f"{part},", indent + 4)]
    else:
        lines += fold(inside, indent + 4)
    return [*lines, pad + line[closing:]]


def outer_brackets(text: str) -> list[tuple[int, int]]:
    """Find the outermost pairs of brackets that hold something."""
    found, depth, opening = [], 0, 0
    for position, character in enumerate(outside_quotes(text)):
        if character in "([{":
            opening = opening if depth else position
            depth += 1
        elif character in ")]}":
            depth -= 1
            if not depth and position > opening + 1:
                found.append((opening, position))
    return found


def outside_quotes(text: str) -> str:
    """Blank out what is quoted, so that brackets and commas in it do not count."""
    return re.sub(r"\"[^\"]*\"|'[^']*'", lambda match: "~" * len(match[0]), text)


def split(text: str, at: str) -> list[str]:
    """Cut a text at a character, but not within brackets."""
    parts, depth, start = [], 0, 0
    for position, character in enumerate(outside_quotes(text)):
        depth += (character in "([{") - (character in ")]}")
        if character == at and not depth:
            parts.append(text[start:position].strip())
            start = position + 1
    return [part for part in [*parts, text[start:].strip()] if part]


# -- what there is


class Module:
    """A module of the core: its text, and where its names come from."""

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source
        self.tree = ast.parse(source)
        self.lines = source.splitlines()
        self.origins: dict[str, str] = {}
        self.typing_only: set[str] = set()
        self.variables: dict[str, ast.Call] = {}
        self.public: list[str] = []
        self._read(self.tree.body)
        self.twins = [
            node
            for node in self.tree.body
            if isinstance(node, ast.ClassDef) and node.name.startswith("Async") and node.name in self.public
        ]

    def _read(self, body: Iterable[ast.stmt], *, typing_only: bool = False) -> None:
        for node in body:
            match node:
                case ast.ImportFrom(module=str(module), names=names):
                    self.origins |= {alias.asname or alias.name: module for alias in names}
                    self.typing_only |= {alias.name for alias in names if typing_only}
                case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                    self._read(node.body, typing_only=True)
                case ast.ClassDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                    self.origins[name] = f"{CORE}.{self.name}"
                case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                    self.public = ast.literal_eval(value)
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Call(func=ast.Name(id="TypeVar"))):
                    assert isinstance(node.value, ast.Call)
                    self.variables[name] = node.value
                case ast.Assign(targets=[ast.Name(id=name)]):
                    self.origins[name] = f"{CORE}.{self.name}"

    def text(self, node: ast.AST) -> str:
        """Give a node's own text, on one line."""
        text = re.sub(r"\s*\n\s*", " ", ast.get_source_segment(self.source, node) or "")
        return re.sub(r",? ?([\])])", r"\1", re.sub(r"([\[(]) ", r"\1", text))

    def may_be_core(self, node: ast.AST) -> bool:
        """Tell whether an annotation may stand for objects of the core, which need their twins."""
        return any(name.startswith("Async") or self.is_open_variable(name) for name in names_in(node))

    def is_open_variable(self, name: str) -> bool:
        """Tell whether a type variable may stand for a class of the core."""
        if name not in self.variables:
            return False
        bounds = [keyword.value for keyword in self.variables[name].keywords if keyword.arg == "bound"]
        return not bounds or any("Async" in ast.unparse(bound) for bound in bounds)

    def docstring(self, node: ast.ClassDef | Method) -> str | None:
        """Give the docstring as it is written, quotes included."""
        if ast.get_docstring(node, clean=False) is None:
            return None
        return ast.get_source_segment(self.source, node.body[0])


def names_in(node: ast.AST | None) -> Iterator[str]:
    """Find the names in an annotation, also in one that is quoted."""
    for each in ast.walk(node) if node else ():
        if isinstance(each, ast.Name):
            yield each.id
        elif isinstance(each, ast.Constant) and isinstance(each.value, str) and each.value.isidentifier():
            yield each.value


# -- writing


class Writer:
    """Writes one module of the facade, and gathers what it must import."""

    def __init__(self, module: Module, home: Mapping[str, str], prose: Prose) -> None:
        self.module = module
        self.home = home
        self.prose = prose
        self.imports: dict[str, set[str]] = {}
        self.typing_only: dict[str, set[str]] = {}
        self.variables: list[str] = []

    def write(self) -> str:
        """Give the whole text."""
        bodies = ["\n".join(self.twin(node)) for node in self.module.twins]
        public = [blocking(node.name) for node in self.module.twins]
        variables = [self.variable(name) for name in self.module.variables if name in self.variables]
        return assemble(
            f"The blocking twin of `{CORE}.{self.module.name}`.",
            f"{CORE}/{self.module.name}.py",
            public,
            self.imports,
            self.typing_only,
            variables,
            bodies,
        )

    def variable(self, name: str) -> str:
        self.need("typing", "TypeVar")
        bounds = [
            f", bound={blocking(ast.unparse(keyword.value)).replace(chr(39), chr(34))}"
            for keyword in self.module.variables[name].keywords
        ]
        return f'{name} = TypeVar("{name}"{"".join(bounds)})'

    def need(self, module: str, *names: str) -> None:
        self.imports.setdefault(module, set()).update(names)

    def use(self, node: ast.AST | None) -> str:
        """Give an annotation or a default as it is here, and see to the imports of its names."""
        if node is None:
            return ""
        for name in names_in(node):
            if name in self.home:
                if self.home[name] != self.module.name:
                    self.need(f"{FACADE}.{self.home[name]}", blocking(name))
            elif name in self.module.variables:
                if name not in self.variables:
                    self.variables.append(name)
                    for keyword in self.module.variables[name].keywords:
                        self.use(
                            ast.parse(
                                ast.literal_eval(keyword.value)
                                if isinstance(keyword.value, ast.Constant)
                                else ast.unparse(keyword.value)
                            )
                        )
            elif name in self.module.origins:
                kind = self.typing_only if name in self.module.typing_only else self.imports
                kind.setdefault(self.module.origins[name], set()).add(name)
        return blocking(self.module.text(node))

    def twin(self, node: ast.ClassDef) -> list[str]:
        """Write a class."""
        bases = [base for base in node.bases if ast.unparse(base) != "ABC"]
        texts = [self.use(base) for base in bases]
        if not any(ast.unparse(base).startswith("Async") for base in bases):
            self.need(f"{FACADE}._facade", "Facade")
            texts.insert(0, "Facade")
        lines = fold(f"class {blocking(node.name)}({', '.join(texts)}):", 0)
        docstring = self.module.docstring(node)
        if docstring is None:
            raise GenerateError(f"{node.name} has no docstring")
        lines.append(f"    {self.prose(docstring)}")
        written = [found for each in self.methods(node) if (found := self.member(each, node))]
        if written:
            lines += ["", f"    _core: {self.core_type(node)}"]
        for member in written:
            lines += ["", *member]
        return lines

    def core_type(self, node: ast.ClassDef) -> str:
        self.need(f"{CORE}.{self.module.name}", node.name)
        variables = next(
            (
                split(self.module.text(base.slice), ",")
                for base in node.bases
                if isinstance(base, ast.Subscript) and ast.unparse(base.value) == "Generic"
            ),
            list(
                dict.fromkeys(
                    name for base in node.bases for name in names_in(base) if name in self.module.variables
                )
            ),
        )
        if not variables:
            return node.name
        returns = [each.returns for each in self.methods(node) if not each.name.startswith("_")]
        wrapped = {name for each in returns for name in names_in(each)}
        kinds = [
            "Any" if self.module.is_open_variable(name) and name in wrapped else name for name in variables
        ]
        if "Any" in kinds:
            self.need("typing", "Any")
        return f"{node.name}[{', '.join(kinds)}]"

    def methods(self, node: ast.ClassDef) -> list[Method]:
        return [each for each in node.body if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef))]

    def member(self, node: Method, owner: ast.ClassDef) -> list[str]:
        """Write a method; nothing for what is the core's own affair."""
        if node.name.startswith("__"):
            return self.special(node, owner)
        if node.name.startswith("_"):
            return []
        decorators = [ast.unparse(each) for each in node.decorator_list]
        for each in decorators:
            if each == "overload":
                self.need("typing", "overload")
            elif each not in ("property", "classmethod"):
                raise GenerateError(f"{owner.name}.{node.name}: no rule for @{each}")
        lines = [f"    @{each}" for each in decorators]
        head = (
            f"def {blocking(node.name)}({', '.join(self.parameters(node.args))}) -> {self.use(node.returns)}:"
        )
        if "overload" in decorators:
            return lines + fold(f"{head} ...{self.type_comment(node)}", 4)
        lines += fold(head, 4)
        docstring = self.module.docstring(node)
        if docstring is None and "property" not in decorators:
            raise GenerateError(f"{owner.name}.{node.name} has no docstring")
        lines.append(f"        {self.prose(docstring or '')}")
        for statement in self.body(node, owner, decorators):
            lines += fold(statement, 8)
        return lines

    def body(self, node: Method, owner: ast.ClassDef, decorators: list[str]) -> list[str]:
        waits = isinstance(node, ast.AsyncFunctionDef)
        if owner.name == "AsyncClient" and node.name == "aclose":
            return ["self._bridge.close()"]
        if "classmethod" in decorators:
            if not waits:
                raise GenerateError(f"{owner.name}.{node.name}: no rule for a plain class method")
            self.need(f"{FACADE}._bridge", "Bridge")
            return [f"return Bridge.run({owner.name}.{node.name}({self.arguments(node.args)}))"]
        core = "self._core"
        if owner.name == "AsyncClient" and not waits:
            core = "self._bridge.entered(self._core)"
        value = f"{core}.{node.name}"
        if "property" not in decorators:
            value += f"({self.arguments(node.args)})"
        if waits:
            way = "finish" if node.name in ("aclose", "cancel") else "call"
            value = f"self._bridge.{way}({value})"
        assert node.returns is not None
        match ast.unparse(node.returns):
            case "None":
                return [value]
            case "Self":
                return [value, "return self"]
        return [f"return self._wrap({value})" if self.module.may_be_core(node.returns) else f"return {value}"]

    def special(self, node: Method, owner: ast.ClassDef) -> list[str]:
        """Write a method that Python calls."""
        is_client = owner.name == "AsyncClient"
        match node.name:
            case "__init__" if is_client:
                return self.constructor(node, owner)
            case "__init__" | "__await__" | "__del__":
                return []
            case "__aenter__":
                enter = (
                    "self._bridge.entered(self._core)"
                    if is_client
                    else "self._bridge.call(self._core.__aenter__())"
                )
                statements = [enter, "return self"]
            case "__aexit__":
                statements = [
                    "self._bridge.close()"
                    if is_client
                    else f"self._bridge.finish(self._core.__aexit__({self.arguments(node.args)}))"
                ]
            case "__aiter__":
                statements = ["return self"]
            case "__anext__":
                statements = ["return self._bridge.next(self._core)"]
            case "__eq__":
                statements = [
                    f"return self._core == other._core if isinstance(other, {blocking(owner.name)}) else NotImplemented"
                ]
            case "__hash__":
                statements = ["return hash(self._core)"]
            case "__repr__":
                statements = ['return repr(self._core).removeprefix("Async")']
            case _:
                raise GenerateError(f"{owner.name}.{node.name}: no rule for this method")
        name = node.name.replace("__a", "__")
        lines = fold(f"def {name}({', '.join(self.parameters(node.args))}) -> {self.use(node.returns)}:", 4)
        if docstring := self.module.docstring(node):
            lines.append(f"        {self.prose(docstring)}")
        return lines + [each for statement in statements for each in fold(statement, 8)]

    def constructor(self, node: Method, owner: ast.ClassDef) -> list[str]:
        """Write how the client is made: its core, and a bridge of its own."""
        parameters = self.parameters(node.args)
        for name, (annotation, default) in CONSTRUCTOR.items():
            self.need("typing", "Literal")
            made = f"{name}: {annotation} = {default}"
            places = [index for index, each in enumerate(parameters) if each.startswith(f"{name}:")]
            parameters[places[0] if places else len(parameters) :] = [made]
        self.need(f"{FACADE}._bridge", "Bridge")
        self.need(f"{FACADE}._timeouts", "with_timeout")
        arguments = [
            each for each in split(self.arguments(node.args), ",") if not each.startswith("timeout=")
        ]
        statements = [
            f"core = with_timeout({owner.name}({', '.join(arguments)}), timeout)",
            "super().__init__(core, Bridge(core, backend))",
        ]
        lines = fold(f"def __init__({', '.join(parameters)}) -> None:", 4)
        return lines + [each for statement in statements for each in fold(statement, 8)]

    def parameters(self, arguments: ast.arguments) -> list[str]:
        """Give the parameters as they are written."""
        if arguments.vararg or arguments.kwarg:
            raise GenerateError("no rule for *args and **kwargs")
        positional = [*arguments.posonlyargs, *arguments.args]
        defaults = [*[None] * (len(positional) - len(arguments.defaults)), *arguments.defaults]
        texts = [self.parameter(*each) for each in zip(positional, defaults, strict=True)]
        if arguments.posonlyargs:
            texts.insert(len(arguments.posonlyargs), "/")
        if arguments.kwonlyargs:
            texts.append("*")
            texts += [
                self.parameter(*each)
                for each in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
            ]
        return texts

    def parameter(self, argument: ast.arg, default: ast.expr | None) -> str:
        if argument.annotation is None:
            return argument.arg
        text = f"{argument.arg}: {self.use(argument.annotation)}"
        return text if default is None else f"{text} = {self.use(default)}"

    def arguments(self, arguments: ast.arguments) -> str:
        """Give what is passed on to the core."""
        positional = [self.argument(each) for each in [*arguments.posonlyargs, *arguments.args][1:]]
        named = [f"{each.arg}={self.argument(each)}" for each in arguments.kwonlyargs]
        return ", ".join([*positional, *named])

    def argument(self, argument: ast.arg) -> str:
        is_callback = any(name.endswith(("Callback", "Handler")) for name in names_in(argument.annotation))
        return f"self._bridge.callback({argument.arg})" if is_callback else argument.arg

    def type_comment(self, node: ast.AST) -> str:
        """Give the comment for type checkers that a definition ends with."""
        line = self.module.lines[getattr(node, "end_lineno", 1) - 1]
        found = re.search(r"  # type: ignore\[[\w, -]+\]", line)
        return found[0] if found else ""


def assemble(
    docstring: str,
    origin: str,
    public: Iterable[str],
    imports: Mapping[str, set[str]],
    typing_only: Mapping[str, set[str]],
    variables: list[str],
    bodies: list[str],
) -> str:
    """Put a module together."""
    imports = {module: set(names) for module, names in imports.items()}
    lines = [f'"""{docstring}"""', "", *do_not_edit(origin), "", "from __future__ import annotations", ""]
    if typing_only:
        imports.setdefault("typing", set()).add("TYPE_CHECKING")
    ours = [module for module in imports if module.startswith("lmstudio_")]
    others = [module for module in imports if module not in ours]
    for group in (others, ours):
        lines += [line for module in sorted(group) for line in import_line(module, imports[module])]
        lines += [""] if group else []
    if typing_only:
        lines.append("if TYPE_CHECKING:")
        lines += [
            f"    {line}"
            for module in sorted(typing_only)
            for line in import_line(module, typing_only[module])
        ]
        lines.append("")
    lines += [*fold(f"__all__ = [{quoted(sorted(public, key=order))}]", 0), ""]
    lines += [*variables, ""] if variables else []
    return "\n".join(lines) + "".join(f"\n\n{body}\n" for body in bodies)


def do_not_edit(origin: str) -> list[str]:
    return [f"# Generated by {FACADE}/_generate.py from {origin}: do not edit."]


def import_line(module: str, names: Iterable[str]) -> list[str]:
    """Write an import, as ruff would sort and fold it."""
    ordered = sorted(names, key=order)
    line = f"from {module} import {', '.join(ordered)}"
    if len(line) <= WIDTH:
        return [line]
    return [f"from {module} import (", *(f"    {name}," for name in ordered), ")"]


def quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


# -- the modules that have no twin


def convenience(modules: Mapping[str, Module], home: Mapping[str, str], prose: Prose) -> str:
    """Write the functions that use the default client."""
    imports: dict[str, set[str]] = {f"{FACADE}._default_client": {"get_default_client"}}
    heads, bodies = [], []
    for name, (namespace, owner, method, example) in CONVENIENCE.items():
        node, writer, values = find_method(modules, home, prose, f"Async{owner}", method)
        for module, names in writer.imports.items():
            imports.setdefault(module, set()).update(names)
        writer.imports = imports
        head = f"def {name}({', '.join(writer.parameters(node.args)[1:])}) -> {writer.use(node.returns)}:"
        call = f"return get_default_client().{namespace}{'.' if namespace else ''}{method}({writer.arguments(node.args)})"
        docstring = prose(writer.module.docstring(node) or "")
        for variable, text in values.items():
            head = re.sub(rf"\b{variable}\b", text, head)
        heads.append(head)
        if example:
            docstring = re.sub(
                r"::\n\n.*?\n(?=\s*\"\"\")", f"::\n\n            {example}\n", docstring, flags=re.DOTALL
            )
        docstring = docstring.replace(f"client.{method}(", f"lms.{name}(")
        docstring = re.sub("^    ", "", docstring, flags=re.MULTILINE)
        bodies.append("\n".join([*fold(head, 0), f"    {docstring}", *fold(uncalled(call), 4)]))
    used = set(re.findall(r"\w+", "\n".join(heads)))
    imports = {module: names & used for module, names in imports.items() if names & used}
    imports[f"{FACADE}._default_client"] = {"get_default_client"}
    return assemble(
        "The functions that use the default client.",
        f"{CORE}/_models.py and _client.py",
        CONVENIENCE,
        imports,
        {},
        [],
        bodies,
    )


def uncalled(call: str) -> str:
    """The default client's own methods see to the callbacks."""
    return re.sub(r"self\._bridge\.callback\((\w+)\)", r"\1", call)


def find_method(
    modules: Mapping[str, Module], home: Mapping[str, str], prose: Prose, owner: str, method: str
) -> tuple[Method, Writer, dict[str, str]]:
    """Find a method in a class or its base; with it what the base's type variables stand for there."""
    module = modules[home[owner]]
    node = next(each for each in module.twins if each.name == owner)
    for each in node.body:
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)) and each.name == method:
            return each, Writer(module, home, prose), {}
    base = node.bases[0]
    if not isinstance(base, ast.Subscript):
        raise GenerateError(f"{owner} has no {method}")
    found, writer, _ = find_method(modules, home, prose, ast.unparse(base.value), method)
    parent = next(each for each in writer.module.twins if each.name == ast.unparse(base.value))
    variables = next(
        split(writer.module.text(each.slice), ",") for each in parent.bases if isinstance(each, ast.Subscript)
    )
    own = Writer(module, home, prose)
    values = dict(zip(variables, map(blocking, split(module.text(base.slice), ",")), strict=True))
    writer.imports = own.imports
    own.use(base.slice)
    return found, writer, values


def package(init: Module, home: Mapping[str, str]) -> str:
    """Write the package's own module: every name of the core's, and those that only this package has."""
    names = {blocking(name): name for name in init.public}
    places: dict[str, list[str]] = {}
    for name, of_the_core in names.items():
        if of_the_core in home:
            places.setdefault(home[of_the_core], []).append(name)
    places["_convenience"] = list(CONVENIENCE)
    places["_default_client"] = ["configure_default_client", "get_default_client"]
    places["_timeouts"] = ["get_sync_api_timeout", "set_sync_api_timeout"]
    own = {name: f"{FACADE}.{module}" for module, found in places.items() for name in found}
    origins = {name: own.get(name) or init.origins[names[name]] for name in [*names, *own]}
    public = sorted(origins, key=order)
    typed = sorted(public, key=lambda name: (origins[name], order(name)))
    lines = [f"    from {origins[name]} import {name} as {name}" for name in typed]
    where = []
    for module in sorted(places):
        found = sorted(places[module], key=order)
        entry = f'    "{module}": ({quoted(found)}{"," if len(found) == 1 else ""}),'
        where += (
            [entry]
            if len(found) == 1
            else [f'    "{module}": (', *(f'        "{name}",' for name in found), "    ),"]
        )
    return PACKAGE.format(
        note="\n".join(do_not_edit(f"{CORE}/__init__.py")),
        imports="\n".join(lines),
        names="\n".join(f'    "{name}",' for name in public),
        where="\n".join(where),
    )


PACKAGE = '''"""The blocking SDK for LM Studio: what `lmstudio_async` does, for scripts, notebooks and threads.

::

    import lmstudio_sync as lms

    llm = lms.llm("llama-3.2-1b-instruct", ttl=3600)
    print(llm.respond("What is the meaning of life?"))

    with lms.Client() as client:
        second = client.llm.load_new_instance("llama-3.2-1b-instruct", "second-llama")
        second.unload()

The same names without ``Async``, the same methods without ``await``. Configs, infos, errors and all else that does no
I/O are `lmstudio_async`'s own. Everything here is loaded when it is first used.
"""

{note}

from __future__ import annotations

import atexit
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
{imports}

__all__ = [
{names}
]

_WHERE = {{
{where}
}}
_MODULES = {{name: module for module, names in _WHERE.items() for name in names}}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {{__name__!r}} has no attribute {{name!r}}")
    if name not in _MODULES:
        value = getattr(import_module("lmstudio_async"), name)
    else:
        value = getattr(import_module(f"{{__name__}}.{{_MODULES[name]}}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({{*globals(), *__all__}})


def _close_all() -> None:
    bridge = sys.modules.get(f"{{__name__}}._bridge")
    if bridge is not None:
        bridge.close_all()


# Registered now, so that what users register later runs before it and may still use their clients.
atexit.register(_close_all)
'''


# -- all of it


def generate(sources: Mapping[str, str], *, prose: Prose | None = None) -> dict[str, str]:
    """Give the text of every generated file, by name.

    :param sources: the core's modules: file name -> text.
    """
    prose = prose or Prose()
    modules = {
        name.removesuffix(".py"): Module(name.removesuffix(".py"), text) for name, text in sources.items()
    }
    home = {node.name: module.name for module in modules.values() for node in module.twins}
    made = {
        f"{module.name}.py": Writer(module, home, prose).write()
        for module in modules.values()
        if module.twins
    }
    made["_convenience.py"] = convenience(modules, home, prose)
    made["__init__.py"] = package(modules["__init__"], home)
    made["py.typed"] = ""
    if prose.unused:
        raise GenerateError(f"nothing in the core says {sorted(prose.unused)}")
    return made


def complaints(made: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """Compare what there should be with what there is."""
    names = sorted({*made, *found} - BY_HAND)
    return [
        f"{name}: missing"
        if name not in found
        else f"{name}: an orphan"
        if name not in made
        else f"{name}: differs"
        for name in names
        if made.get(name) != found.get(name)
    ]


def read(folder: Path) -> dict[str, str]:
    files = [*folder.glob("*.py"), *folder.glob("py.typed")]
    return {path.name: path.read_text(encoding="utf-8") for path in files}


def main(arguments: list[str]) -> int:
    """Write the files, or check them."""
    here = Path(__file__).parent
    made = generate({name: text for name, text in read(here.parent / CORE).items() if name.endswith(".py")})
    found = complaints(made, read(here))
    if "--check" in arguments:
        for each in found:
            sys.stderr.write(f"{FACADE}/{each}. Run: python {FACADE}/_generate.py\n")
        return 1 if found else 0
    for each in found:
        path = here / each.partition(":")[0]
        if path.name in made:
            path.write_text(made[path.name], encoding="utf-8")
        else:
            path.unlink()
        sys.stdout.write(f"{each}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

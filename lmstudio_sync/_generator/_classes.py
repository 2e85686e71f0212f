"""The modules of the facade with twins: the blocking class of each async class."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping

from ._layout import assemble, fold, split
from ._module import Method, Module, names_in
from ._prose import Prose
from ._rules import CONSTRUCTOR, CORE, FACADE, GenerateError, blocking

__all__ = ["Writer"]


class Writer:
    """Writes one module of the facade, and gathers its imports."""

    def __init__(self, module: Module, home: Mapping[str, str], prose: Prose) -> None:
        self.module = module
        self.home = home
        self.prose = prose
        self.imports: dict[str, set[str]] = {}
        self.typing_only: dict[str, set[str]] = {}
        self.variables: list[str] = []

    def write(self) -> str:
        """Return the text of the module."""
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

    def kind(self, name: str) -> dict[str, set[str]]:
        """Return the imports that a name belongs to: those for type checkers only, if it is one of these in the core."""
        return self.typing_only if name in self.module.typing_only else self.imports

    def use(self, node: ast.AST | None) -> str:
        """Return the facade's text of an annotation or a default, and import its names."""
        if node is None:
            return ""
        self.use_names(node)
        return blocking(self.module.text(node))

    def use_names(self, node: ast.AST) -> None:
        """Import the names in an annotation or a default."""
        for name in names_in(node):
            if name in self.home:
                if self.home[name] != self.module.name:
                    place = f"{FACADE}.{self.home[name]}"
                    self.kind(name).setdefault(place, set()).add(blocking(name))
            elif name in self.module.variables:
                if name not in self.variables:
                    self.variables.append(name)
                    for keyword in self.module.variables[name].keywords:
                        self.use_names(
                            ast.parse(
                                ast.literal_eval(keyword.value)
                                if isinstance(keyword.value, ast.Constant)
                                else ast.unparse(keyword.value)
                            )
                        )
            elif name in self.module.origins:
                self.kind(name).setdefault(self.module.origins[name], set()).add(name)

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
        """Write a method; return no lines if the facade does not have it."""
        if node.name.startswith("__"):
            return self.special(node, owner)
        if node.name.startswith("_"):
            return []
        decorators = [ast.unparse(each) for each in node.decorator_list]
        if "classmethod" in decorators and node.returns is not None and ast.unparse(node.returns) == "Self":
            # An async constructor. A plain constructor may block, and needs no twin that waits.
            return []
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
        assert node.returns is not None
        match ast.unparse(node.returns):
            case "None" if waits:
                return [f"self._bridge.{'finish' if node.name in ('aclose', 'cancel') else 'call'}({value})"]
            case "None":
                return [value]
            case "Self" if waits:
                # If an interrupt comes after its end, the bridge undoes the work that was started.
                return [f"self._bridge.call({value}, undo={core}._abandon)", "return self"]
            case "Self":
                return [value, "return self"]
        is_core = self.module.may_be_core(node.returns)
        if waits:
            return [f"return self._bridge.call({value}{', self._wrap' if is_core else ''})"]
        return [f"return self._wrap({value})" if is_core else f"return {value}"]

    def special(self, node: Method, owner: ast.ClassDef) -> list[str]:
        """Write a method that Python calls."""
        is_client = owner.name == "AsyncClient"
        is_handle = owner.name == "AsyncModelHandle"
        match node.name:
            case "__init__" if is_client:
                return self.constructor(node, owner)
            case "__init__" | "__await__" | "__del__" | "__reduce__":
                return []
            case "__aenter__" if is_client:
                statements = ["self._bridge.entered(self._core)", "return self"]
            case "__aenter__" if is_handle:
                # The instance is there already, so a block that an interrupt keeps from its beginning is begun and ended.
                statements = [
                    "entering = self._core.__aenter__()",
                    "try:",
                    "    self._bridge.call(entering, undo=self._core._abandon, surely=True)",
                    "except BaseException:",
                    "    if self._bridge.catch_up(entering):",
                    "        self._bridge.catch_up(self._core._abandon())",
                    "    raise",
                    "return self",
                ]
            case "__aenter__":
                statements = [
                    "self._bridge.call(self._core.__aenter__(), undo=self._core._abandon)",
                    "return self",
                ]
            case "__aexit__" if is_handle:
                # A stream that is left open is cancelled when it is dropped, but an instance would stay loaded.
                statements = [
                    f"leaving = self._core.__aexit__({self.arguments(node.args)})",
                    "try:",
                    "    self._bridge.finish(leaving)",
                    "except BaseException:",
                    "    self._bridge.catch_up(leaving)",
                    "    raise",
                ]
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
        """Write the constructor of the client, which makes the core's client and a bridge for it."""
        parameters = self.parameters(node.args)
        for name, (annotation, default) in CONSTRUCTOR.items():
            self.need("typing", "Literal")
            made = f"{name}: {annotation} = {default}"
            places = [index for index, each in enumerate(parameters) if each.startswith(f"{name}:")]
            place = places[0] if places else len(parameters)
            parameters[place : place + 1] = [made]
        self.need(f"{FACADE}._bridge", "Bridge")
        self.need(f"{FACADE}._timeouts", "with_timeout")
        arguments = [
            each for each in split(self.arguments(node.args), ",") if not each.startswith("timeout=")
        ]
        statements = [
            f"core = with_timeout({owner.name}({', '.join(arguments)}), timeout)",
            "super().__init__(core, Bridge(core, backend, _limits))",
        ]
        lines = fold(f"def __init__({', '.join(parameters)}) -> None:", 4)
        return lines + [each for statement in statements for each in fold(statement, 8)]

    def parameters(self, arguments: ast.arguments) -> list[str]:
        """Return the parameters of a definition, each as text."""
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
        """Return the arguments that the facade passes on to the core."""
        positional = [self.argument(each) for each in [*arguments.posonlyargs, *arguments.args][1:]]
        named = [f"{each.arg}={self.argument(each)}" for each in arguments.kwonlyargs]
        return ", ".join([*positional, *named])

    def argument(self, argument: ast.arg) -> str:
        is_callback = any(name.endswith(("Callback", "Handler")) for name in names_in(argument.annotation))
        return f'self._bridge.callback("{argument.arg}", {argument.arg})' if is_callback else argument.arg

    def type_comment(self, node: ast.AST) -> str:
        """Return the comment for type checkers at the end of a definition."""
        line = self.module.lines[getattr(node, "end_lineno", 1) - 1]
        found = re.search(r"  # type: ignore\[[\w, -]+\]", line)
        return found[0] if found else ""

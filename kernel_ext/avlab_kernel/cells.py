"""Running a ``%%remote`` cell in the notebook's namespace and making what it defines remote."""

from __future__ import annotations

import ast
from dataclasses import replace
from types import CodeType, FunctionType
from typing import Any

from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from avlab.remote.stand_ins import original_of

from .classes import remote_class, replaced
from .functions import RemoteFunction
from .home import Home
from .outlines import outline
from .tracebacks import CannotBeRemote, begin_in

HOOK = "__avlab_definition__"


class Cell:
    """One run of a ``%%remote`` cell.

    Definitions at its top level (also inside if, try, with and loops) become remote as soon as they are made; while a
    definition is made it sees the originals of other remote names, to extend and to decorate with. Other statements see
    remote names only: an instance that the cell makes for itself is remote too.
    """

    def __init__(self, shell: InteractiveShell, home: Home, line: str, body: str) -> None:
        self._shell, self.names = shell, shell.user_ns
        # The magic's line stays as a comment, so that line numbers are those of the cell that the user sees.
        self.text = f"#{line}\n" + shell.transform_cell(body)
        if body.lstrip().startswith("%%"):
            raise UsageError("%%remote must be the only cell magic of its cell: %%time and its like go above it")
        number = shell.displayhook.prompt_count
        self.filename = shell.compile.cache(self.text, number, raw_code=f"#{line}\n{body}")
        self.home = replace(home, sources={self.filename: self.text})
        self.defined: dict[str, Any] = {}
        self._adopted = 0

    def run(self) -> None:
        """Execute it. What it raises is shown with a traceback that starts in the cell."""
        __tracebackhide__ = True
        known = {id(value): value for value in self.names.values()}  # alive, so that nothing new takes an old one's id
        self.names[HOOK] = lambda name: _Definition(self, name)
        try:
            for code in self._codes():
                exec(code, self._shell.user_global_ns, self.names)
        except BaseException as error:
            begin_in(self._shell, error, self.filename)
            raise
        finally:
            self.names.pop(HOOK, None)
            self._adopt_the_rest(known)
        if not self._adopted:
            raise UsageError("%%remote: this cell defines no class and no function, so all of it has run here, in the notebook")

    def _codes(self) -> list[CodeType]:
        """The cell, and its last expression on its own, which is displayed."""
        try:
            tree = self._tree()
            _Definitions().visit(tree)
            tree = self._shell.transform_ast(ast.fix_missing_locations(tree))
            parts: list[tuple[ast.Module | ast.Interactive, str]] = [(tree, "exec")]
            if tree.body and isinstance(tree.body[-1], ast.Expr):
                parts.append((ast.Interactive([tree.body.pop()]), "single"))
            return [self._shell.compile(part, self.filename, mode) for part, mode in parts]
        except SyntaxError as error:
            if "await" in (error.msg or "") or "async" in (error.msg or ""):
                error.msg = f"{error.msg}: a %%remote cell defines; await in the next cell"
            raise

    def outline(self) -> None:
        """Do not execute it: bind its names to proxies of what its text defines."""
        try:
            tree = self._tree()
        except SyntaxError as error:
            begin_in(self._shell, error, self.filename)
            raise
        for name, value in outline(tree, self.filename).items():
            old = self.names.get(name)
            self.adopt(name, value)
            replaced(old)

    def _tree(self) -> ast.Module:
        tree: ast.Module = self._shell.compile.ast_parse(self.text, filename=self.filename)
        return tree

    def adopt(self, name: str, value: Any) -> None:
        """Bind ``name`` to the remote twin of what the cell defined. Raises CannotBeRemote; then the name is not bound."""
        try:
            self.names[name] = proxy = self._remote(name, value)
            self._adopted += 1
        except CannotBeRemote:
            self.names.pop(name, None)
            raise
        if proxy is not value:
            self.defined[name] = proxy

    def _remote(self, name: str, value: Any) -> Any:
        if isinstance(value, type):
            return remote_class(value, self.home)
        if callable(value):
            return RemoteFunction(value, self.home)
        kind = type(value).__name__
        raise CannotBeRemote(f"{name} cannot be remote: its decorators made a {kind} of it, neither class nor function")

    def _adopt_the_rest(self, known: dict[int, Any]) -> None:
        """Lambdas, and classes made by calls, that the cell bound to names."""
        for name, value in list(self.names.items()):
            if id(value) in known or name.startswith("_") or original_of(value) is not None:
                continue
            function = isinstance(value, FunctionType) and value.__code__.co_filename == self.filename
            cls = isinstance(value, type) and value.__module__ == self.names["__name__"]
            if function or cls:
                self.adopt(name, value)


class _Definition:
    """Around each definition: the originals are in place while it is made, then it becomes remote."""

    def __init__(self, cell: Cell, name: str) -> None:
        self._cell, self._name = cell, name

    def __enter__(self) -> None:
        names = self._cell.names
        self._proxies = {n: v for n, v in list(names.items()) if original_of(v) is not None}
        names.update({n: original_of(v) for n, v in self._proxies.items()})

    def __exit__(self, kind: object, error: object, tb: object) -> None:
        names, name = self._cell.names, self._name
        for n, proxy in self._proxies.items():
            if names.get(n) is original_of(proxy):
                names[n] = proxy
        old = self._proxies.get(name)
        if kind is None and names.get(name) is not old:
            self._cell.adopt(name, names[name])
            replaced(old)


class _Definitions(ast.NodeTransformer):
    """Puts every definition at the top level into a ``with`` of its own."""

    def _within(self, node: Any) -> ast.With:
        call = ast.Call(ast.Name(HOOK, ast.Load()), [ast.Constant(node.name)], [])
        return ast.copy_location(ast.With([ast.withitem(call)], [node]), node)

    visit_FunctionDef = visit_AsyncFunctionDef = visit_ClassDef = _within

    def visit_Lambda(self, node: ast.Lambda) -> ast.Lambda:
        return node

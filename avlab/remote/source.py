"""Which imports a piece of source text makes, read from its syntax tree; nothing is executed."""

from __future__ import annotations

import ast
import functools
import symtable
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

_CAUGHT = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
# A condition that mentions one of these asks about the environment: either branch may be absent here or there.
_ENVIRONMENT = {"version_info", "platform", "implementation", "find_spec"}

_PARSING = threading.RLock()


def parsed(text: str) -> ast.Module:
    """The syntax tree of ``text``. Two threads at once would now and then make CPython 3.11 raise SystemError. Raises SyntaxError."""
    with _PARSING:
        return ast.parse(text)


@dataclass(frozen=True, slots=True)
class Import:
    """One import: ``names`` follow ``from module import``; ``level`` counts its leading dots.

    ``guarded``: its absence is provided for (``try``/``except ImportError`` and the like). ``instead``: the imports that
    this one replaces when they fail; while they all resolve, this one need not.
    """

    module: str
    names: tuple[str, ...]
    level: int
    line: int
    guarded: bool = False
    instead: tuple[Import, ...] = ()

    def __str__(self) -> str:
        module = "." * self.level + self.module
        return f"from {module} import {', '.join(self.names)}" if self.names else f"import {module}"


@functools.lru_cache(maxsize=512)
def imports(text: str, main: bool = False) -> tuple[Import, ...]:
    """Every import of ``text`` in the order of its lines, those inside functions too.

    Left out: what stands under ``if TYPE_CHECKING`` and, unless ``main``, under ``if __name__ == "__main__"``.
    ``importlib.import_module`` and ``__import__`` count when their argument is a literal. Raises SyntaxError.
    """
    scan = _Scan(main)
    scan.visit(parsed(text))
    return tuple(scan.found)


@functools.lru_cache(maxsize=128)
def constants(text: str) -> tuple[tuple[str, str, int], ...]:
    """``(name, value, line)`` of every assignment of a string literal in ``text``. Raises SyntaxError."""
    found = []
    for node in ast.walk(parsed(text)):
        if isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Constant):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            value = node.value.value
            if isinstance(value, str | bytes):
                plain = value if isinstance(value, str) else value.decode("latin-1")
                found += [(ast.unparse(t).rpartition(".")[2], plain, node.lineno) for t in targets]
    return tuple(found)


def free_names(text: str) -> tuple[set[str], set[str]]:
    """The names that ``text`` takes from the namespace it runs in, and those that it binds there. Raises SyntaxError."""
    table = symtable.symtable(text, "<cell>", "exec")
    bound = {s.get_name() for s in table.get_symbols() if s.is_assigned() or s.is_imported() or s.is_namespace()}
    free, scopes = set[str](), [table]
    for scope in scopes:
        scopes += scope.get_children()
        free |= {s.get_name() for s in scope.get_symbols() if s.is_referenced() and (scope is table or s.is_global())}
    free -= bound
    known: set[str] = set()
    for node in parsed(text).body:
        names = [n for n in ast.walk(node) if isinstance(n, ast.Name)]
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):  # reads before it binds: x = x + 1
            read = {n.id for n in names if isinstance(n.ctx, ast.Load)}
            read |= {ast.unparse(node.target)} if isinstance(node, ast.AugAssign) else set()
            free |= read & bound - known
        known |= {n.id for n in names if isinstance(n.ctx, ast.Store)} | {str(getattr(node, "name", ""))}
        known |= {
            (a.asname or a.name).partition(".")[0] for a in getattr(node, "names", ()) if isinstance(a, ast.alias)
        }
    return free, bound


def listed(text: str) -> tuple[str, ...]:
    """The literal ``__all__`` of a package's ``__init__``: what ``from package import *`` imports; empty if there is none."""
    for node in parsed(text).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets):
            try:
                value = ast.literal_eval(node.value)
            except ValueError:
                return ()
            return tuple(name for name in value if isinstance(name, str)) if isinstance(value, list | tuple) else ()
    return ()


class _Scan(ast.NodeVisitor):
    def __init__(self, main: bool) -> None:
        self.found: list[Import] = []
        self._main = main
        self._guarded = False
        self._instead: tuple[Import, ...] = ()

    @contextmanager
    def _within(self, guarded: bool = False, instead: tuple[Import, ...] = ()) -> Iterator[None]:
        before = self._guarded, self._instead
        self._guarded, self._instead = before[0] or guarded, before[1] + instead
        yield
        self._guarded, self._instead = before

    def _visit_all(self, nodes: Sequence[ast.AST]) -> None:
        for node in nodes:
            self.visit(node)

    def _add(self, module: str, names: tuple[str, ...], level: int, line: int) -> None:
        self.found.append(Import(module, names, level, line, self._guarded, self._instead))

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self._add(alias.name, (), 0, node.lineno)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        self._add(node.module or "", tuple(a.name for a in node.names), node.level, node.lineno)

    def visit_Call(self, node: ast.Call) -> None:
        self.generic_visit(node)
        if _last_name(node.func) not in ("import_module", "__import__") or not node.args:
            return
        target = node.args[0]
        if isinstance(target, ast.Constant) and isinstance(target.value, str) and target.value.strip("."):
            module = target.value.lstrip(".")
            level = len(target.value) - len(module)
            package = (
                node.args[1]
                if len(node.args) > 1
                else next((k.value for k in node.keywords if k.arg == "package"), None)
            )
            if level and isinstance(package, ast.Constant) and isinstance(package.value, str):
                parts = package.value.split(".")
                module, level = ".".join([*parts[: len(parts) - level + 1], module]), 0
            self._add(module, (), level, node.lineno)

    def visit_Try(self, node: ast.Try | ast.TryStar) -> None:
        catches = any(h.type is None or _CAUGHT & _names(h.type) for h in node.handlers)
        before = len(self.found)
        with self._within(guarded=catches):
            self._visit_all(node.body)
        attempted = tuple(self.found[before:]) if catches else ()
        with self._within(instead=attempted):
            self._visit_all(node.handlers)
        self._visit_all([*node.orelse, *node.finalbody])

    def visit_TryStar(self, node: ast.TryStar) -> None:
        self.visit_Try(node)

    def visit_With(self, node: ast.With) -> None:
        calls = [item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call)]
        guarded = any(_last_name(c.func) == "suppress" and any(_CAUGHT & _names(a) for a in c.args) for c in calls)
        self._visit_all(node.items)
        with self._within(guarded=guarded):
            self._visit_all(node.body)

    def visit_If(self, node: ast.If) -> None:
        test = node.test
        if _last_name(test) == "TYPE_CHECKING":
            return self._visit_all(node.orelse)
        if (
            isinstance(test, ast.UnaryOp)
            and isinstance(test.op, ast.Not)
            and _last_name(test.operand) == "TYPE_CHECKING"
        ):
            return self._visit_all(node.body)
        if not self._main and _asks_for_main(test):
            return self._visit_all(node.orelse)
        self.visit(test)
        with self._within(guarded=bool(_ENVIRONMENT & _names(test)) or ast.unparse(test).startswith("os.name")):
            self._visit_all([*node.body, *node.orelse])


def _last_name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _names(node: ast.AST) -> set[str]:
    return {_last_name(n) for n in ast.walk(node)}


def _asks_for_main(test: ast.AST) -> bool:
    return isinstance(test, ast.Compare) and {"__name__", "'__main__'"} == {
        ast.unparse(p) for p in (test.left, *test.comparators)
    }

"""What a cell would define, known from its text alone: for cells whose imports exist only where they will run."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from typing import Any

_KEPT = ("property", "classmethod", "staticmethod", "setter", "deleter", "getter")


def outline(tree: ast.Module, filename: str) -> dict[str, Any]:
    """Classes and functions with the names, signatures and shapes of the cell's, and empty bodies.

    Nothing of the cell is executed. A class whose bases or decorators are unknown here takes any arguments. Annotations are
    kept where modules that are installed here explain them.
    """
    found = list(_definitions(tree.body))
    namespace: dict[str, Any] = {"__name__": "__main__"}
    known = {d.name for d in found if isinstance(d, ast.ClassDef)}
    _import_for_annotations(tree, found, namespace)
    outliner = _Outliner(known, namespace)
    module = ast.Module([outliner.visit(definition) for definition in found], [])
    exec(compile(ast.fix_missing_locations(module), filename, "exec", dont_inherit=True), namespace)
    return {definition.name: namespace[definition.name] for definition in found}


Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def _definitions(body: list[Any]) -> Iterator[Definition]:
    """The definitions at the top level, also inside if, try, with and loops."""
    for node in body:
        if isinstance(node, Definition):
            yield node
        elif not isinstance(node, ast.expr):
            yield from _definitions(
                [child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt | ast.excepthandler)]
            )


def _import_for_annotations(tree: ast.Module, found: list[Definition], namespace: dict[str, Any]) -> None:
    """Bind the imported names that annotations use, as far as their modules exist here."""
    wanted = {n.id for d in found for note in _annotations(d) for n in ast.walk(note) if isinstance(n, ast.Name)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Import | ast.ImportFrom) or (isinstance(node, ast.ImportFrom) and node.level):
            continue
        for alias in node.names:
            bound = alias.asname or alias.name.partition(".")[0]
            if bound not in wanted:
                continue
            try:
                if isinstance(node, ast.ImportFrom):
                    namespace[bound] = getattr(importlib.import_module(node.module or ""), alias.name)
                else:
                    module = importlib.import_module(alias.name)
                    namespace[bound] = module if alias.asname else importlib.import_module(bound)
            except (ImportError, AttributeError):
                continue


def _annotations(definition: Definition) -> Iterator[ast.expr]:
    for node in ast.walk(definition):
        if isinstance(node, ast.arg) and node.annotation is not None:
            yield node.annotation


class _Outliner(ast.NodeTransformer):
    def __init__(self, known: set[str], namespace: dict[str, Any]) -> None:
        self._known, self._namespace = known, namespace

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        bases: list[ast.expr] = [b for b in node.bases if isinstance(b, ast.Name) and b.id in self._known]
        unknown = len(bases) < len(node.bases) or node.keywords or node.decorator_list
        body = [kept for part in node.body if (kept := self._kept(part)) is not None]
        if unknown and not any(isinstance(part, ast.FunctionDef) and part.name == "__init__" for part in node.body):
            body += ast.parse("def __init__(self, *args, **kwargs): ...").body
        return ast.copy_location(ast.ClassDef(node.name, bases, [], body or [ast.Pass()], []), node)

    def _kept(self, part: ast.stmt) -> ast.stmt | None:
        if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            kept: ast.stmt = self.visit(part)
            return kept
        if isinstance(part, ast.AnnAssign):
            note = ast.Constant(ast.unparse(part.annotation))
            return ast.AnnAssign(part.target, note, part.value and _plain(part.value), part.simple)
        if isinstance(part, ast.Assign):
            return (
                ast.Assign(part.targets, _plain(part.value))
                if all(isinstance(t, ast.Name) for t in part.targets)
                else None
            )
        return part if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) else None

    def _function(self, node: Any) -> Any:
        document = [node.body[0]] if ast.get_docstring(node) is not None else []
        shape: list[ast.stmt] = [ast.Expr(ast.Yield())] if _yields(node) else [ast.Pass()]
        decorators = [d for d in node.decorator_list if ast.unparse(d).rpartition(".")[2] in _KEPT]
        for argument in ast.walk(node.args):
            if (
                isinstance(argument, ast.arg)
                and argument.annotation is not None
                and not self._resolves(argument.annotation)
            ):
                argument.annotation = None
        node.args.defaults = [_plain(d) for d in node.args.defaults]
        node.args.kw_defaults = [d and _plain(d) for d in node.args.kw_defaults]
        return ast.copy_location(type(node)(node.name, node.args, [*document, *shape], decorators, None), node)

    visit_FunctionDef = visit_AsyncFunctionDef = _function

    def _resolves(self, annotation: ast.expr) -> bool:
        # Names and attributes of modules only: nothing of the cell runs.
        allowed = (
            ast.Name,
            ast.Attribute,
            ast.Constant,
            ast.BinOp,
            ast.BitOr,
            ast.Subscript,
            ast.Tuple,
            ast.expr_context,
        )
        if not all(isinstance(part, allowed) for part in ast.walk(annotation)):
            return False
        try:
            eval(compile(ast.Expression(annotation), "<annotation>", "eval"), dict(self._namespace))
        except (NameError, AttributeError, TypeError):
            return False
        return True


def _yields(node: Any) -> bool:
    """Whether the function itself, not one inside it, yields."""
    waiting = list(node.body)
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.Yield | ast.YieldFrom):
            return True
        if not isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            waiting.extend(ast.iter_child_nodes(part))
    return False


def _plain(value: ast.expr) -> ast.expr:
    """The value if it is a literal, otherwise an ellipsis in its place."""
    try:
        ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError):
        return ast.Constant(...)
    return value

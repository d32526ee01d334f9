"""Node: a function from items to items.

Anything with a ``process`` is a node; subclassing `Node` adds parameters (annotated class attributes), ``>>`` and ``on``.
What kind of node an object is gets decided once, here, when a pipeline is built or a session opens.
"""

from __future__ import annotations

import enum
import inspect
import types
import typing
from collections import abc
from collections.abc import Callable
from typing import Any, ClassVar

from avlab.core.errors import ConfigError, PipelineError
from avlab.core.item import Item
from avlab.core.scrub import address

REQUIRED = inspect.Parameter.empty


class Shape(enum.Enum):
    """How a node is driven."""

    FUNCTION = "function"
    COROUTINE = "coroutine"
    GENERATOR = "generator"
    ASYNC_GENERATOR = "async generator"
    STREAM = "stream"  # `stream(items) -> iterator of Items`: sees the whole stream itself (remote nodes)
    SOURCE = "source"  # `items() -> iterator`: makes items from nothing


def shape_of(node: object) -> Shape:
    """The shape of a node. Raises PipelineError for an object with none of ``process``, ``stream`` and ``items``."""
    if isinstance(node, type):
        raise PipelineError(
            f"{node.__qualname__} is a class: put an instance, {node.__qualname__}(), into the pipeline"
        )
    function = _definition(node)
    if function is not None:
        if inspect.isasyncgenfunction(function):
            return Shape.ASYNC_GENERATOR
        if inspect.iscoroutinefunction(function):
            return Shape.COROUTINE
        if inspect.isgeneratorfunction(function):
            return Shape.GENERATOR
        return Shape.FUNCTION
    if callable(getattr(node, "stream", None)):
        return Shape.STREAM
    if callable(getattr(node, "items", None)):
        return Shape.SOURCE
    raise PipelineError(f"{node!r} is not a node: it has neither process(value) nor items()")


def consumes(node: object) -> tuple[type, ...] | None:
    """The types that ``process`` of a node (or node class) takes, from the annotation of its first parameter.

    An empty tuple means everything (``Any``, ``object`` or `Item`); None means that there is no annotation. A node may also
    say it itself with an attribute ``consumes``. Raises PipelineError for an annotation that does not resolve.
    """
    declared = getattr(node, "consumes", None)
    if declared is not None and not callable(declared):
        return tuple(declared)
    hint = _process_hint(node)
    return None if hint is REQUIRED else _types(hint)


def produces(node: object) -> tuple[type, ...] | None:
    """The types of a node's results, as far as they are known: an attribute ``produces``, else the return annotation.

    An empty tuple means no results (a sink); None means unknown. A generator's annotation says what it yields.
    """
    declared = getattr(node, "produces", None)
    if declared is not None and not callable(declared):
        return tuple(declared)
    function = _definition(node)
    if function is None or inspect.signature(function).return_annotation is REQUIRED:
        return None
    try:
        hint = typing.get_type_hints(function)["return"]
        while typing.get_origin(hint) in _ITERATORS:
            hint = typing.get_args(hint)[0]
        return () if hint is type(None) else _types(hint) or None
    except (NameError, AttributeError, TypeError, PipelineError):  # a helpful hint, not a condition
        return None


_ITERATORS = (abc.Iterator, abc.Iterable, abc.Generator, abc.AsyncIterator, abc.AsyncIterable, abc.AsyncGenerator)


def takes_item(node: object) -> bool:
    """Whether ``process`` is annotated to take the `Item` itself instead of its value."""
    return _process_hint(node) is Item


def _process_hint(node: object) -> Any:
    function = _definition(node)
    if function is None:
        return REQUIRED
    arguments = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.KEYWORD_ONLY]
    if isinstance(node, type) and not issubclass(node, FunctionNode):
        arguments = arguments[1:]  # self
    if not arguments or arguments[0].annotation is REQUIRED:
        return REQUIRED
    try:
        return typing.get_type_hints(function)[arguments[0].name]
    except Exception as error:
        where = f"{type(node).__qualname__}.process"
        raise PipelineError(f"annotation {arguments[0].annotation!r} of {where} does not resolve: {error}") from error


def _types(hint: Any) -> tuple[type, ...]:
    if hint is Any or hint is object or hint is Item:
        return ()
    if isinstance(hint, typing.TypeVar):
        return _types(hint.__bound__ or Any)
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        parts = [_types(part) for part in typing.get_args(hint) if part is not type(None)]
        return () if () in parts else tuple(t for part in parts for t in part)
    if origin is typing.Annotated:
        return _types(typing.get_args(hint)[0])
    if origin is typing.Literal:
        return tuple({type(value) for value in typing.get_args(hint)})
    cls = origin or hint
    if not isinstance(cls, type):
        raise PipelineError(f"annotation {hint!r} of a process names no type")
    return (float, int) if cls is float else (cls,)


class Node:
    """Base class of nodes. Annotated class attributes are parameters, given by keyword (or position, in order).

    Override ``process`` (one item in; return, yield or await results), and where needed ``open``, ``close`` and ``flush``
    (results that remain when the input has ended). Set ``stateless = True`` when an item's result depends on that item
    alone; ``snapshot()`` (plain data, bytes or arrays) and ``restore(state)`` carry state over to another worker. Raises ConfigError for unknown or missing parameters.
    """

    stateless: ClassVar[bool] = False
    remote: ClassVar[Any] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        remote = kwargs.pop("remote", None)
        if remote is not None:
            self.remote = remote  # type: ignore[misc]  # the class attribute is the default
        cls = type(self)
        if _own_init(cls):  # calls this one, and answers for its parameters itself
            bound = _bind(cls, {name: (kind, None) for name, (kind, _) in _declared(cls).items()}, args, kwargs)
        else:
            bound = bind_parameters(cls, args, kwargs)
        for name, value in bound.items():
            setattr(self, name, value)

    def open(self) -> Any:
        """Called once before the first item, where the node runs."""

    def close(self) -> Any:
        """Called once after the last item, also after an error."""

    def on(self, config: Any) -> Any:
        """A copy of this node that runs where ``config`` (a RemoteExecutorConfig or a URL) says."""
        return join.place(self, join.config(config) if isinstance(config, str) else config)

    def __rshift__(self, other: object) -> Any:
        return join.pipeline([self, other])

    def __rrshift__(self, other: object) -> Any:
        return join.pipeline([other, self])

    def __repr__(self) -> str:
        values = ((name, getattr(self, name, default), default) for name, (_, default) in parameters(type(self)).items())
        shown = ((name, address(value) if isinstance(value, str) else value) for name, value, default in values if value is not default)
        given = ", ".join(f"{name}={value!r}" for name, value in shown)
        return f"{type(self).__qualname__}({given})"


class join:
    """How ``a >> b``, ``node.on(url)`` and a run's display reach what stands above; avlab/__init__ fills them in."""

    pipeline: ClassVar[Callable[[list[object]], Any]]
    preview: ClassVar[Callable[..., Any]]
    config: ClassVar[Callable[[str], Any]]
    place: ClassVar[Callable[[object, Any], Any]]


def parameters(cls: type) -> dict[str, tuple[Any, Any]]:
    """Parameters of a node class in order: name → (annotation, default or REQUIRED).

    They are the annotated public class attributes of the class and its bases (dataclass style); for a class with an own
    ``__init__`` they are its arguments.
    """
    if _own_init(cls):
        signature = inspect.signature(inspect.getattr_static(cls, "__init__"))
        plain = [p for p in list(signature.parameters.values())[1:] if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
        return {p.name: (p.annotation, p.default) for p in plain}
    return _declared(cls)


def _own_init(cls: type) -> bool:
    inits = [inspect.getattr_static(base, "__init__") for base in (cls, Node, object)]
    return inits[0] not in inits[1:]


def _declared(cls: type) -> dict[str, tuple[Any, Any]]:
    found: dict[str, tuple[Any, Any]] = {}
    for base in reversed(cls.__mro__):
        if base is Node:
            continue
        for name, annotation in inspect.get_annotations(base).items():
            if not name.startswith("_") and "ClassVar" not in str(annotation):
                found[name] = (annotation, getattr(cls, name, REQUIRED))
    return found


def bind_parameters(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments by parameter name, defaults left to the class. Raises ConfigError naming what is wrong."""
    return _bind(cls, parameters(cls), args, kwargs)


def _bind(
    cls: type, known: dict[str, tuple[Any, Any]], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> dict[str, Any]:
    if len(args) > len(known):
        raise ConfigError(f"{cls.__qualname__} takes {len(known)} parameters ({', '.join(known)}), got {len(args)}")
    bound = dict(zip(known, args, strict=False))
    for name, value in kwargs.items():
        if name not in known:
            raise ConfigError(f"{cls.__qualname__} has no parameter {name!r}; it has: {', '.join(known) or 'none'}")
        if name in bound:
            raise ConfigError(f"{cls.__qualname__} got parameter {name!r} twice")
        bound[name] = value
    for name, (_, default) in known.items():
        if default is REQUIRED and name not in bound:
            raise ConfigError(f"{cls.__qualname__} needs parameter {name!r}")
    return bound


class FunctionNode(Node):
    """A node made of a function by `node`."""

    function: ClassVar[Callable[..., Any]]

    def process(self, value: Any) -> Any:
        """What the function makes of the value: its result, coroutine or generator."""
        options = {name: getattr(self, name) for name in parameters(type(self))}
        return type(self).function(value, **options)


def node(function: Callable[..., Any]) -> type[FunctionNode]:
    """Make a node class of a function: the first argument is the item's value, the rest are parameters.

    ``@avlab.node`` above ``def blur(frame: av.VideoFrame, radius: int = 3)`` makes ``blur(radius=5)`` a node.
    Anything that can be called will do; what has no name (``*args``, say) gets nothing. Raises ConfigError for what takes no
    value, and for what does not say what it takes, as some builtins.
    """
    name = getattr(function, "__name__", type(function).__name__)
    qualified = getattr(function, "__qualname__", name)
    try:
        arguments = list(inspect.signature(function).parameters.values())
    except (ValueError, TypeError):
        raise ConfigError(
            f"{qualified} does not say what it takes: put it into a function, avlab.node(lambda value: {name}(value))"
        ) from None
    if not arguments or arguments[0].kind in (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.VAR_KEYWORD):
        raise ConfigError(f"{qualified} takes no item: its first argument must be the value")
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    options = [each for each in arguments[1:] if each.kind in named]
    body: dict[str, Any] = {
        "function": staticmethod(function),
        "__doc__": function.__doc__,
        "__module__": getattr(function, "__module__", None) or __name__,
        "__qualname__": qualified,
        "__annotations__": {p.name: Any if p.annotation is REQUIRED else p.annotation for p in options},
    }
    body.update({p.name: p.default for p in options if p.default is not REQUIRED})
    return type(name, (FunctionNode,), body)


def _definition(node: object) -> Callable[..., Any] | None:
    """The function whose signature says what the node is: its process, or the function that `node` wrapped."""
    if isinstance(node, FunctionNode):
        return type(node).function
    if isinstance(node, type) and issubclass(node, FunctionNode):
        return node.function
    process = getattr(node, "process", None)
    return inspect.unwrap(process) if callable(process) else None

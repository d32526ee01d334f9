"""Nodes: shapes, ports and parameters."""

from collections.abc import AsyncIterator, Iterator
from functools import lru_cache, partial
from typing import Annotated, Any, ClassVar, Literal, Optional, TypeVar, Union

import pytest

from avlab.core.errors import ConfigError, PipelineError
from avlab.core.item import Item
from avlab.core.node import REQUIRED, Node, Shape, consumes, join, node, parameters, produces, shape_of, takes_item

Bound = TypeVar("Bound", bound=str)


def noded(function):
    """An object whose process is the function."""
    return type("Made", (), {"process": staticmethod(function)})()


class Twice:
    def __call__(self, value):
        return value * 2


class Function:
    def process(self, value):
        return value


class Coroutine:
    async def process(self, value):
        return value


class Generator:
    def process(self, value):
        yield value


class AsyncGenerator:
    async def process(self, value):
        yield value


class Stream:
    def stream(self, items):
        return items


class Source:
    def items(self):
        return []


class Called:
    class _Process:
        def __call__(self, value):
            return value

    process = _Process()


@pytest.mark.parametrize(
    ("cls", "shape"),
    [
        (Function, Shape.FUNCTION),
        (Coroutine, Shape.COROUTINE),
        (Generator, Shape.GENERATOR),
        (AsyncGenerator, Shape.ASYNC_GENERATOR),
        (Stream, Shape.STREAM),
        (Source, Shape.SOURCE),
        (Called, Shape.FUNCTION),
    ],
)
def test_shapes(cls, shape):
    assert shape_of(cls()) is shape


@pytest.mark.parametrize("thing", [3, "text", object(), [], print])
def test_what_is_no_node(thing):
    with pytest.raises(PipelineError, match="not a node"):
        shape_of(thing)


@pytest.mark.parametrize("cls", [Function, Stream, Source, int])
def test_a_class_is_no_node(cls):
    with pytest.raises(PipelineError, match=r"is a class: put an instance"):
        shape_of(cls)


def hinted(hint):
    def process(value): ...

    process.__annotations__["value"] = hint
    return noded(process)


@pytest.mark.parametrize(
    ("hint", "types"),
    [
        (int, (int,)),
        (float, (float, int)),
        (Any, ()),
        (object, ()),
        (Item, ()),
        (int | str, (int, str)),
        (Union[int, str], (int, str)),  # noqa: UP007  the old spelling counts too
        (Optional[bytes], (bytes,)),  # noqa: UP045
        (int | Any, ()),
        (list[int], (list,)),
        (Annotated[int, "pixels"], (int,)),
        (Bound, (str,)),
        (TypeVar("Free"), ()),
        (Literal["a", "b"], (str,)),
        ("int", (int,)),
    ],
)
def test_consumes(hint, types):
    assert consumes(hinted(hint)) == types


def test_no_annotation_is_not_any():
    assert consumes(Function()) is None


def test_consumes_may_be_said_outright():
    made = Function()
    made.consumes = (int,)
    assert consumes(made) == (int,)


def test_an_annotation_that_does_not_resolve():
    with pytest.raises(PipelineError, match=r"NoSuchName.*process does not resolve"):
        consumes(hinted("NoSuchName"))


@pytest.mark.parametrize(
    ("hint", "types"),
    [
        (None, ()),
        (int, (int,)),
        (int | None, (int,)),
        (Iterator[str], (str,)),
        (AsyncIterator[bytes], (bytes,)),
        (Any, None),
        (Item, None),
        ("NoSuchName", None),
    ],
)
def test_produces(hint, types):
    def process(value): ...

    process.__annotations__["return"] = hint
    assert produces(noded(process)) == types


def test_produces_of_a_source_and_of_the_unknown():
    source = Source()
    assert produces(source) is None
    source.produces = (int, str)
    assert produces(source) == (int, str)
    assert produces(Function()) is None


def test_takes_item():
    assert takes_item(hinted(Item))
    assert not takes_item(hinted(int))
    assert not takes_item(Function())


class Base(Node):
    first: int
    second: str = "two"

    def process(self, value):
        return value


class Derived(Base):
    third: float = 3.0
    shared: ClassVar[int] = 1
    _private: int = 0


def test_parameters_are_annotated_public_attributes_in_order():
    assert list(parameters(Derived)) == ["first", "second", "third"]
    assert parameters(Derived)["first"] == (int, REQUIRED)
    assert parameters(Derived)["third"][1] == 3.0


def test_arguments_by_name_and_position():
    made = Derived(1, third=4.0)
    assert (made.first, made.second, made.third) == (1, "two", 4.0)
    assert repr(made) == "Derived(first=1, third=4.0)"  # without what is as the class says


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((), {}, "needs parameter 'first'"),
        ((1, "a", 2.0, 3), {}, "takes 3 parameters"),
        ((1,), {"first": 1}, "got parameter 'first' twice"),
        ((1,), {"fourth": 1}, "has no parameter 'fourth'; it has: first, second, third"),
    ],
)
def test_wrong_arguments(args, kwargs, message):
    with pytest.raises(ConfigError, match=message):
        Derived(*args, **kwargs)


def test_own_init_defines_the_parameters():
    class Own(Node):
        def __init__(self, size, *, mode="a", **rest):
            super().__init__()

    assert parameters(Own) == {"size": (REQUIRED, REQUIRED), "mode": (REQUIRED, "a")}
    assert isinstance(Own(3), Own)


def test_own_init_may_call_the_base():
    class Own(Node):
        mode: str = "a"

        def __init__(self, size, remote=None):
            super().__init__(mode="b", remote=remote)
            self.size = size

    made = Own(3, remote="there")
    assert (made.size, made.mode, made.remote) == (3, "b", "there")
    assert list(parameters(Own)) == ["size", "remote"]


def test_function_nodes():
    @node
    def scale(value: int, factor: int = 2, offset=0) -> int:
        "Multiply."
        return value * factor + offset

    made = scale(factor=5)
    assert made.process(3) == 15
    assert (scale.__name__, scale.__doc__, consumes(made), produces(made)) == ("scale", "Multiply.", (int,), (int,))
    assert shape_of(made) is Shape.FUNCTION
    assert list(parameters(scale)) == ["factor", "offset"]


def test_function_nodes_keep_the_functions_shape():
    async def later(value): ...

    def many(value):
        yield value

    assert shape_of(node(later)()) is Shape.COROUTINE
    assert shape_of(node(many)()) is Shape.GENERATOR


@pytest.mark.parametrize(
    ("callable_", "result"),
    [
        (len, 3),
        (str.upper, "ABC"),
        (str.strip, "abc"),
        ("-".join, "a-b-c"),
        (partial(lambda first, value: first + value, "x"), "xabc"),
        (partial(lambda value, *, last: value + last, last="x"), "abcx"),
        (lambda value, *more, **named: (value, more, named), ("abc", (), {})),
        (lambda *values: values, ("abc",)),
        (Twice(), "abcabc"),
        (lru_cache(str.title), "Abc"),
    ],
)
def test_whatever_can_be_called_makes_a_node(callable_, result):
    assert node(callable_)().process("abc") == result


@pytest.mark.parametrize("function", [lambda: None, lambda *, value: value, lambda **named: named])
def test_a_function_that_takes_no_value_is_refused(function):
    with pytest.raises(ConfigError, match="takes no item"):
        node(function)


@pytest.mark.parametrize("function", [max, int])
def test_what_does_not_say_what_it_takes_is_refused(function):
    with pytest.raises(ConfigError, match=rf"avlab.node\(lambda value: {function.__name__}\(value\)\)"):
        node(function)


def test_on_places_a_node(monkeypatch):
    monkeypatch.setattr(join, "place", lambda placed, config: (placed, config))
    monkeypatch.setattr(join, "config", lambda url: f"config of {url}")
    made = Base(1)
    assert made.on("local:") == (made, "config of local:")
    assert made.on(3) == (made, 3)


def test_a_class_says_what_its_instances_consume() -> None:
    class Doubled(Node):
        def process(self, value: int) -> int:
            return value * 2

    @node
    def halved(value: float) -> float:
        return value / 2

    assert consumes(Doubled) == consumes(Doubled()) == (int,)
    assert consumes(halved) == consumes(halved()) == (float, int)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://user:p@ss@host:554/x", "rtsp://…@host:554/x"),
        ("https://host/#room=a&token=abc-_123&role=view", "https://host/#room=a&token=…&role=view"),
        ("http://host/a@b?mail=c@d", "http://host/a@b?mail=c@d"),
    ],
)
def test_what_a_notebook_shows_of_a_node_has_no_password(url: str, shown: str) -> None:
    class Reads(Node):
        url: str

        def process(self, value: int) -> int:
            return value

    assert repr(Reads(url=url)).endswith(f"Reads(url={shown!r})")

"""Remote classes and functions as objects of Python: on the embedded executor, without a notebook."""

import asyncio
import copy
import gc
import inspect
import linecache
import os
import pickle
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from avlab_kernel import display, sessions
from avlab_kernel.classes import RemoteClass, remote_class
from avlab_kernel.display import Outputs
from avlab_kernel.functions import RemoteFunction
from avlab_kernel.home import Home
from avlab_kernel.proxy import handle_of
from avlab_kernel.sessions import Desk
from avlab_kernel.tracebacks import CannotBeRemote

from avlab import CodecError, ConfigError, Pipeline, PipelineError, RemoteError, SessionError
from avlab.core.errors import LinkClosed

Define = Callable[[str], Any]


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    desk = Desk()
    yield desk
    desk.stop()


@pytest.fixture
def define(desk: Desk, tmp_path: Path) -> Define:
    """The remote twin of the last class or function that a text defines, as a cell would define it."""

    def define(text: str) -> Any:
        text = textwrap.dedent(text)
        filename = f"<cell {len(text)} {hash(text)}>"
        linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
        namespace: dict[str, Any] = {"__name__": "__main__"}
        exec(compile(text, filename, "exec"), namespace)
        home = Home(desk, tmp_path, {filename: text})
        original = list(namespace.values())[-1]
        return remote_class(original, home) if isinstance(original, type) else RemoteFunction(original, home)

    return define


@pytest.fixture
def counter(define: Define) -> Any:
    return define(
        """
        class Counter:
            "Counts."
            STEP = 2
            def __init__(self, n: int = 0): self.n = n
            def add(self, k=1): self.n += k; return self.n
            def me(self): return self
            def __call__(self, x): return x + self.n
            def __len__(self): return 3
            def __bool__(self): return False
            def __getitem__(self, i):
                if i > 2: raise IndexError(i)
                return i * 10
            def __contains__(self, x): return x == 4
            def __enter__(self): self.n = 100; return self
            def __exit__(self, *error): self.n = -1
            async def __aenter__(self): return self
            async def __aexit__(self, *error): return False
            def __eq__(self, other): return other == self.n
            def __hash__(self): return 99
            def __lt__(self, other): return self.n < other
            def __add__(self, other): return self.n + other if other else NotImplemented
            def __radd__(self, other): return other + self.n
            def __iadd__(self, other): self.n += other; return self
            def __repr__(self): return f"<{self.n}>"
            @property
            def double(self):
                "Twice."
                return 2 * self.n
            @double.setter
            def double(self, value): self.n = value / 2
            @staticmethod
            def plus(x): return x + 1
            @classmethod
            def name(cls): return cls.__name__
            @classmethod
            def of(cls, n) -> "Counter": return cls(n)
            async def later(self): return self.n
            def each(self, n):
                yield from range(n)
            async def aeach(self, n):
                for i in range(n): yield i
        """
    )


def test_attributes_and_methods_are_those_over_there(counter: Any) -> None:
    c = counter(5)
    assert (c.n, c.add(2), c.n) == (5, 7, 7)
    c.n = 1
    c.fresh = [1]
    assert (c.n, c.fresh, c.STEP, counter.STEP) == (1, [1], 2, 2)
    del c.fresh
    assert not hasattr(c, "fresh")
    assert c.__dict__ == {"n": 1}
    assert c.me() is c


def test_properties_are_read_and_written_over_there(counter: Any) -> None:
    c = counter(5)
    assert c.double == 10
    c.double = 6
    assert c.n == 3
    assert counter.double.__doc__ == "Twice."


def test_operators(counter: Any) -> None:
    c = counter(5)
    assert (c(1), len(c), bool(c), list(c), 4 in c, c[1], c == 5, c != 4, hash(c), c < 9) == (
        (6, 3, False, [0, 10, 20], True, 10, True, True, 99, True)
    )
    assert (c + 1, 1 + c, repr(c), str(c), f"{c}") == (6, 6, "<5>", "<5>", "<5>")
    with pytest.raises(TypeError, match="unsupported operand"):
        c + 0
    same = c
    c += 4
    assert c is same
    assert c.n == 9


def test_context_managers(counter: Any) -> None:
    c = counter()
    with c as entered:
        assert entered is c
        assert c.n == 100
    assert c.n == -1

    async def use() -> bool:
        async with c as entered:
            return entered is c

    assert asyncio.run(use())


def test_async_and_generator_methods_keep_their_shapes(counter: Any) -> None:
    c = counter(4)
    assert inspect.iscoroutinefunction(counter.later)
    assert inspect.isgeneratorfunction(counter.each)
    assert inspect.isasyncgenfunction(counter.aeach)
    assert list(c.each(3)) == [0, 1, 2]

    async def use() -> tuple[int, list[int]]:
        return await c.later(), [value async for value in c.aeach(2)]

    assert asyncio.run(use()) == (4, [0, 1])


def test_an_error_inside_of_a_with_reaches_the_exit_over_there(define: Define) -> None:
    guard = define(
        """
        class Guard:
            seen = ()
            def __enter__(self): return self
            def __exit__(self, kind, error, tb): self.seen = kind.__name__, str(error), tb; return self.seen[0] != "KeyError"
            def fail(self): raise LookupError("over there")
            async def __aenter__(self): return self
            async def __aexit__(self, *error): return self.__exit__(*error)
        """
    )

    class Odd(ValueError):
        def __init__(self, *, code: int) -> None:
            super().__init__(f"code {code}")

    class Locked(Odd):
        def __init__(self, *, code: int) -> None:
            super().__init__(code=code)
            self.lock = threading.Lock()

    g = guard()
    with g:
        g.fail()
    assert g.seen == ("LookupError", "over there", None)
    with g:
        b"\xff".decode()
    assert g.seen[0] == "UnicodeDecodeError"
    for kind in (Odd, Locked):
        with g:
            raise kind(code=3)
        assert g.seen == ("ValueError", "code 3", None)
    with pytest.raises(KeyError, match="mine"), g:
        raise KeyError("mine")

    async def use() -> None:
        async with g:
            raise ZeroDivisionError("inside")

    asyncio.run(use())
    assert g.seen[:2] == ("ZeroDivisionError", "inside")


def test_a_generator_returns_its_value_and_is_told_nothing(define: Define) -> None:
    talk = define(
        """
        class Talk:
            closed = False
            def some(self):
                yield 1
                return "end"
            def echo(self):
                try:
                    x = None
                    while True: x = yield x
                finally: self.closed = True
            async def aecho(self):
                while True: yield 1
        """
    )()

    def delegate() -> Iterator[Any]:
        yield (yield from talk.some())

    assert list(delegate()) == [1, "end"]
    for use in (lambda g: g.send(1), lambda g: g.throw(ValueError("in"))):
        echo = talk.echo()
        next(echo)
        with pytest.raises(CannotBeRemote, match="echo: nothing can be"):
            use(echo)
        assert talk.closed
    echo = talk.echo()
    assert (next(echo), echo.send(None)) == (None, None)
    echo.close()

    async def asend() -> None:
        values = talk.aecho()
        await anext(values)
        await values.asend(2)

    with pytest.raises(CannotBeRemote, match="aecho: nothing can be sent"):
        asyncio.run(asend())


def test_an_object_is_awaited_and_reversed_over_there(define: Define) -> None:
    cls = define(
        """
        import asyncio
        class Soon:
            def __await__(self):
                yield from asyncio.sleep(0).__await__()
                return 7
            def __reversed__(self): return iter([2, 1])
        """
    )

    async def use() -> Any:
        return await cls()

    assert asyncio.run(use()) == 7
    assert list(reversed(cls())) == [2, 1]


def test_what_contextlib_makes_is_not_entered_here(define: Define) -> None:
    held = define("import contextlib\n@contextlib.contextmanager\ndef held(): yield 1")
    with pytest.raises(CannotBeRemote, match="__enter__ and __exit__"):
        held()
    cls = define(
        """
        import contextlib
        class Holder:
            @contextlib.contextmanager
            def held(self): yield 1
            @contextlib.asynccontextmanager
            async def aheld(self): yield 1
            def use(self):
                with self.held() as value: return value
        """
    )
    assert cls().use() == 1
    for method in ("held", "aheld"):
        with pytest.raises(CannotBeRemote, match=f"{method} makes a context manager"):
            getattr(cls(), method)()


def test_collections_and_checks_of_abstract_classes(define: Define) -> None:
    table = define(
        """
        import collections.abc
        class Table(collections.abc.MutableMapping):
            def __init__(self): self.d = {}
            def __getitem__(self, k): return self.d[k]
            def __setitem__(self, k, v): self.d[k] = v
            def __delitem__(self, k): del self.d[k]
            def __iter__(self): return iter(self.d)
            def __len__(self): return len(self.d)
        """
    )
    t = table()
    t["a"] = 1
    t.update(b=2)
    assert (dict(t), {**t}, list(t.values()), list(t.items())) == (
        ({"a": 1, "b": 2}, {"a": 1, "b": 2}, [1, 2], [("a", 1), ("b", 2)])
    )
    # The kernel's own checks ask all subclasses of an abstract class, remote ones too.
    assert (isinstance(3, Mapping), isinstance(3, table), issubclass(dict, table), isinstance(t, Mapping)) == (
        (False, False, False, True)
    )
    hooked = define(
        """
        import abc
        class Hooked(abc.ABC):
            @classmethod
            def __subclasshook__(cls, other): return hasattr(other, "quack") or NotImplemented
        """
    )
    assert isinstance(type("Duck", (), {"quack": 1})(), hooked)
    assert not isinstance(3, hooked)


def test_abstract_properties_and_class_methods(define: Define) -> None:
    for text in ("@property", "@classmethod"):
        cls = define(f"import abc\nclass A(abc.ABC):\n    {text}\n    @abc.abstractmethod\n    def part(self): ...")
        with pytest.raises(TypeError, match="abstract: part"):
            cls()


def test_single_dispatch(define: Define) -> None:
    deep = define(
        """
        import functools
        @functools.singledispatch
        def deep(x): "Doc."; return "other"
        @deep.register(list)
        def _(x): return [deep(each) for each in x]
        @deep.register
        def _(x: int | float): return "number"
        del _
        deep = deep
        """
    )
    assert (deep([1, "a", [2.0]]), deep.__doc__) == (["number", "other", ["number"]], "Doc.")
    cls = define(
        """
        import functools
        class Box:
            @functools.singledispatchmethod
            def name(self, x): return "other"
            @name.register
            def _(self, x: int): return "int"
        """
    )
    assert (cls().name(1), cls().name("a")) == ("int", "other")


def test_class_and_static_methods(counter: Any) -> None:
    assert (counter.plus(1), counter(0).plus(2), counter.name()) == (2, 3, "Counter")
    made = counter.of(7)
    assert type(made) is counter
    assert made.n == 7


def test_a_remote_class_looks_like_the_original(counter: Any) -> None:
    assert (counter.__name__, counter.__doc__, str(inspect.signature(counter))) == (
        "Counter",
        "Counts.",
        "(n: int = 0)",
    )
    assert str(inspect.signature(counter.add)) == "(self, k=1)"
    assert isinstance(counter(), counter)
    assert issubclass(counter, counter)
    assert not isinstance(3, counter)


def test_iterators_end_over_there(define: Define) -> None:
    once = define(
        """
        class Once:
            left = 2
            def __iter__(self): return self
            def __next__(self):
                if not self.left: raise StopIteration
                self.left -= 1
                return self.left
        """
    )
    assert list(once()) == [1, 0]
    assert list(define("class Some:\n    def __iter__(self): return iter([1, 2])")()) == [1, 2]


def test_parameters_without_init(define: Define) -> None:
    cls = define(
        """
        class Gain:
            factor: float = 1.0
            def open(self): self.seen = self.factor
            def process(self, x: int): return x * self.factor
        """
    )
    gain = cls(factor=3)
    assert (gain.process(2), gain.seen, cls().process(2)) == (6, 3, 2)
    with pytest.raises(ConfigError, match="no parameter 'loud'"):
        cls(loud=1)


def test_what_a_class_body_made_of_remote_classes_is_no_use_here(define: Define) -> None:
    part = define("class Part:\n    def size(self): return 3")
    whole = define("class Whole:\n    def size(self): return self.part.size()")
    inner = part.__avlab__.original
    body = {"__module__": "__main__", "part": inner(), "kind": inner}
    original = type("Filled", (whole.__avlab__.original,), body)
    proxy = remote_class(original, whole.__avlab__.home)
    assert proxy().size() == 3
    for name in ("part", "kind"):
        with pytest.raises(CannotBeRemote, match="would run here"):
            getattr(proxy, name)


def test_only_pictures_of_an_object_are_shown(define: Define) -> None:
    shown = define(
        "class Shown:\n    def _repr_png_(self): return b'png'\n    def _repr_html_(self): return '<script>'"
    )()
    assert shown._repr_png_() == b"png"
    assert not hasattr(shown, "_repr_html_")


def test_wrong_arguments_are_told_early(counter: Any) -> None:
    with pytest.raises(TypeError, match="too many positional"):
        counter(1, 2)


def test_remote_errors_are_of_the_builtin_type(counter: Any) -> None:
    with pytest.raises(AttributeError, match="nothing") as caught:
        _ = counter().nothing
    assert isinstance(caught.value, RemoteError)


def test_abstract_slots_generic_nested_and_hooks(define: Define) -> None:
    abstract = define("import abc\nclass Shape(abc.ABC):\n    @abc.abstractmethod\n    def area(self): ...")
    with pytest.raises(TypeError, match="abstract: area"):
        abstract()
    slotted = define("class Slotted:\n    __slots__ = ('v',)\n    def __init__(self, v): self.v = v")(3)
    slotted.v += 1
    assert slotted.v == 4
    generic = define(
        "import typing\nT = typing.TypeVar('T')\nclass Box(typing.Generic[T]):\n    def get(self, x): return x"
    )
    assert generic[int]().get(3) == 3
    outer = define("import os\nclass Outer:\n    class Inner:\n        def pid(self): return os.getpid()")
    assert isinstance(outer.Inner, RemoteClass)
    seen = define(
        "class Base:\n    seen = []\n    def __init_subclass__(cls, **_): Base.seen.append(cls)\nclass Sub(Base): pass"
    ).seen
    assert len(seen) == 1


def test_what_cannot_be_remote_says_so(define: Define, counter: Any) -> None:
    for text, words in (
        ("class Mine(list): pass", "keep a list in an attribute"),
        ("class Meta(type): pass\nclass Mine(metaclass=Meta): pass", "metaclass Meta"),
        ("class Meta(type): pass", "it is a metaclass"),
    ):
        with pytest.raises(CannotBeRemote, match=words):
            define(text)
    with pytest.raises(TypeError, match="%%remote on the first line"):

        class Plain(counter):  # type: ignore[misc]
            pass

    with pytest.raises(TypeError, match="cannot be set from here"):
        counter.STEP = 3
    c = counter()
    for use in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="cannot be copied, pickled"):
            use(c)
    with pytest.raises(TypeError, match="needs a remote instance"):
        counter.add(3)


def test_two_remote_objects_meet_nowhere(define: Define) -> None:
    plain = define("class Plain: pass")
    a, b = plain(), plain()
    assert (a == a, a == b, a != b, a in [b], len({a, b})) == (True, False, True, False, 2)
    cls = define(
        """
        class Value:
            def __init__(self, v): self.v = v
            def __eq__(self, other): return other == self.v
            def __hash__(self): return 1
            def __lt__(self, other): return True
            def __add__(self, other): return 1
        """
    )
    x, y = cls(1), cls(1)
    assert (x == x, x == 1, x in [x]) == (True, True, True)
    for use in (lambda: x == y, lambda: x != y, lambda: x in [y], lambda: {x, y}, lambda: x < y, lambda: x + y, lambda: a == x):
        with pytest.raises(CannotBeRemote, match=r"of two remote objects.*what they hold"):
            use()


def test_any_keyword_is_the_methods_own(define: Define) -> None:
    cls = define(
        """
        class Names:
            def all(this, **given): return given
            def each(this, method, self): yield from (method, self)
            async def later(this, method): return method
        """
    )()
    assert cls.all(method=1, args=2, kwargs=3, owner=4, session=5, self=6) == (
        {"method": 1, "args": 2, "kwargs": 3, "owner": 4, "session": 5, "self": 6}
    )
    assert list(cls.each(method=1, self=2)) == [1, 2]
    assert asyncio.run(cls.later(method=3)) == 3


def test_an_iterator_that_is_returned_is_refused_by_name(define: Define) -> None:
    cls = define(
        """
        class Gives:
            def mapped(self): return map(str, [1])
            def file(self): return open("x", "w")
            def some(self): return (x for x in [1])
            def asome(self):
                async def each(): yield 1
                return each()
        """
    )()
    for name, kind in (("mapped", "map"), ("file", "TextIOWrapper"), ("some", "generator"), ("asome", "async_generator")):
        with pytest.raises(CodecError, match=rf"{name} returns an iterator \({kind}\).*return a list"):
            getattr(cls, name)()
    with pytest.raises(CodecError, match=r"^some returns an iterator"):
        define("def some(): return iter([1])")()


def test_protocols(define: Define) -> None:
    text = """
        import os, typing
        @typing.runtime_checkable
        class Goes(typing.Protocol):
            def go(self) -> int: ...
            def pid(self): return os.getpid()
    """
    goes = define(text)
    follows = define(text + "    class Follows(Goes):\n            def go(self): return isinstance(self, Goes)\n")
    assert (follows().go(), follows().pid() != os.getpid()) == (True, True)
    quack = define("class Quack:\n    def go(self): return 1\n    def pid(self): return 2")
    assert (isinstance(quack(), goes), isinstance(3, goes), issubclass(follows, follows)) == (True, False, True)
    with pytest.raises(TypeError, match="needs a remote instance"):
        goes.pid(3)


def test_annotations_are_those_of_the_class(define: Define) -> None:
    assert define("class Noted:\n    x: int\n    y: str = ''").__annotations__ == {"x": int, "y": str}


def test_value_types_stay_what_they_are(define: Define) -> None:
    assert define("class Mine(ValueError): pass").__mro__[1] is ValueError
    assert define("import enum\nclass Mine(enum.Enum):\n    A = 1").A.value == 1


def test_the_kernel_runs_no_code_of_the_class(define: Define, capfd: pytest.CaptureFixture[str]) -> None:
    cls = define(
        """
        import sys
        class Loud:
            def __new__(cls): print("new", file=sys.__stderr__); return object.__new__(cls)
            def __init__(self): print("init", file=sys.__stderr__)
            def __del__(self): print("del", file=sys.__stderr__)
            def process(self, x: int): return x
        """
    )
    loud = cls()
    loud.__avlab_node__()
    del loud
    gc.collect()
    assert capfd.readouterr().err == ""


def test_functions(define: Define) -> None:
    double = define("def double(x, k=2):\n    'Doubles.'\n    return x * k")
    assert (double(3), double(3, k=3), double.__doc__, str(inspect.signature(double))) == (6, 9, "Doubles.", "(x, k=2)")
    assert list(define("def count(n):\n    yield from range(n)")(3)) == [0, 1, 2]
    assert asyncio.run(define("async def later(x): return x")(3)) == 3


def test_what_a_function_has_over_there_only_is_named(define: Define) -> None:
    cached = define("import functools\n@functools.lru_cache\ndef cached(x): return x")
    assert cached(3) == 3
    with pytest.raises(AttributeError, match="cache_info of the remote function cached exists in remote code only"):
        _ = cached.cache_info
    with pytest.raises(AttributeError, match="no attribute 'other'"):
        _ = cached.other
    assert not hasattr(cached, "__fspath__")


def collected(*nodes: object) -> list[Any]:
    async def collect() -> list[Any]:
        return [getattr(item, "value", item) async for item in Pipeline(nodes).stream()]

    return asyncio.run(collect())


def test_proxies_are_nodes(define: Define) -> None:
    gain = define("class Gain:\n    k: int = 1\n    def process(self, x: int):\n        yield x * self.k")
    double = define("def double(x: int): return x * 2")
    assert collected([1, 2], gain(k=10), double) == [20, 40]
    assert repr(gain(k=2) >> double)
    with pytest.raises(PipelineError, match="one value"):
        Pipeline([[1], define("def both(a, b): ...")])
    with pytest.raises(PipelineError, match="neither process"):
        Pipeline([[1], define("class Idle: pass")()])


def test_one_object_is_one_session_for_calls_and_pipelines(define: Define) -> None:
    total = define(
        "class Total:\n    sum = 0\n    def process(self, x: int):\n        self.sum += x\n        return self.sum"
    )()
    assert collected([1, 2], total) == [1, 3]
    assert (total.process(4), total.sum) == (7, 7)


def test_an_unreferenced_object_loses_its_session(counter: Any) -> None:
    c = counter()
    c.add()
    handle = handle_of(c, "add")
    del c
    end = time.monotonic() + 10
    while not handle.is_over and time.monotonic() < end:
        threading.Event().wait(0.01)  # the closer tells nobody
    assert handle.is_over


def test_a_dead_object_says_why_and_never_starts_again(define: Define) -> None:
    fatal = define("import os\nclass Fatal:\n    def die(self): os._exit(3)\n    def live(self): return 1")()
    with pytest.raises(SessionError):
        fatal.die()
    with pytest.raises(SessionError, match=r"Fatal\(\) cannot be used any more.*make a new one"):
        fatal.live()


def test_stop_ends_sessions_by_name_or_all(define: Define) -> None:
    cls = define("class Kept:\n    def live(self): return 1")
    first, second = cls(), cls()
    desk = cls.__avlab__.home.desk
    first.live(), second.live()
    assert desk.stop("Kept") == 2
    with pytest.raises(SessionError, match="stopped by %avlab stop"):
        first.live()
    assert cls().live() == 1


def test_a_session_that_cannot_be_closed_keeps_no_other_from_being_closed() -> None:
    desk, closed = Desk(), threading.Event()

    class Dropped:
        is_open = True

        def __init__(self, close: Callable[[], None]) -> None:
            self._close = close

        def close(self, why: str) -> None:
            self._close()

    def broken() -> None:
        raise LinkClosed("the executor is gone")

    desk.opened()
    try:
        desk._release(Dropped(broken))
        desk._release(Dropped(closed.set))
        assert closed.wait(5)
    finally:
        desk.stop()


class Slow:
    """Connects, or opens sessions, for as long as ``go_on`` is not set."""

    def __init__(self) -> None:
        self.begun, self.go_on, self.closed = threading.Event(), threading.Event(), 0

    def connect(self, url: str, **_: Any) -> Any:
        self._take_long()
        return self

    def open(self, *_: Any, **__: Any) -> Any:
        self._take_long()
        return self

    def _take_long(self) -> None:
        self.begun.set()
        assert self.go_on.wait(20)

    def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize("slow", ["executor", "session"])
def test_status_and_stop_do_not_wait_for_who_connects(define: Define, monkeypatch: pytest.MonkeyPatch, slow: str) -> None:
    far, desk = Slow(), Desk()
    cls = define("class Slowly:\n    def go(self):\n        return 1\n")
    handle = handle_of(cls(), "")
    if slow == "executor":
        monkeypatch.setattr(sessions, "connect", far.connect)
        handle.home = replace(handle.home, desk=desk)
    else:
        handle.home = far
    desk.adopt(handle, handle)
    with ThreadPoolExecutor(2) as pool:
        opening = pool.submit(handle.session)
        assert far.begun.wait(10)
        try:
            assert pool.submit(desk.sessions).result(10) == []
            assert pool.submit(desk.connected).result(10) == {}
            assert pool.submit(desk.stop).result(10) == 1
        finally:
            far.go_on.set()
        with pytest.raises(SessionError, match="stopped by %avlab stop"):
            opening.result(10)
    assert far.closed == 1 and desk.connected() == {}


def test_output_of_many_sessions_is_kept_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display, "KEPT", 50_000)
    outputs, before = Outputs(), sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    with ThreadPoolExecutor(4) as threads:
        try:
            jobs = [threads.submit(lambda: [outputs.keep("a", "x\n" * 50) for _ in range(3000)]) for _ in range(4)]
            while not all(job.done() for job in jobs):
                outputs.recent(10)
            for job in jobs:
                job.result(60)
        finally:
            sys.setswitchinterval(before)
    assert outputs._size == sum(len(text) + display._OWN for _, text in outputs._kept) <= 50_000

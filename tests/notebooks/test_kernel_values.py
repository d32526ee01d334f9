"""Value classes with methods beside remote classes in a real kernel: used here as values, their methods run over there."""

import pytest

CELL = """%%remote
import collections, dataclasses, enum, os, typing
class Color(str, enum.Enum):
    RED = "r"
    BLUE = "b"
    def pid(self): return os.getpid()
    @property
    def upper_value(self): return self.value.upper()
    @classmethod
    def _missing_(cls, value): return cls.RED
    def __str__(self): return "c-" + self.value
class Flags(enum.Flag):
    X = enum.auto()
    Y = enum.auto()
    def both(self): return self == Flags.X | Flags.Y
class Planet(enum.Enum):
    EARTH = (6, 2)
    MARS = (8, 2)
    def __init__(self, mass, radius): self.mass, self._radius = mass, radius
    def g(self): return self.mass / self._radius
    def __lt__(self, other): return self.mass < other.mass
class Point(collections.namedtuple("Point", "x y", defaults=[2])):
    def sum(self): return self.x + self.y
class Typed(typing.NamedTuple):
    x: int
    def __add__(self, other): return Typed(self.x + other.x)
class Doubling(collections.namedtuple("Doubling", "x")):
    def __new__(cls, x): return super().__new__(cls, 2 * x)
@dataclasses.dataclass(order=True)
class Box:
    side: int
    color: Color = Color.RED
    def area(self): return self.side ** 2
    def larger(self): return Box(self.side + 1)
@dataclasses.dataclass(slots=True)
class Never:
    x: int
    def __eq__(self, other): return False
@dataclasses.dataclass(frozen=True)
class Size:
    width: int
    height: int = 1
    def area(self): return self.width * self.height
@dataclasses.dataclass
class Loud:
    x: int
    def __repr__(self): return f"loud {os.getpid()}"
    def __getattr__(self, name): return name
    def __reduce__(self): return Loud, (0,)
    def __del__(self): print("deleted")
class LoudPoint(Point):
    def __repr__(self): return "loud"
    def __reduce__(self): return LoudPoint, (0,)
class Shop:
    default = Color.BLUE
    mode: Color = Color.RED
    class Kind(enum.Enum):
        K = 1
        def label(self): return "kind"
    class Plain(enum.Enum):
        P = 1
    def back(self, value: Planet | Flags): return value
    def run(self, value, method, *args): return getattr(value, method)(*args)
    def same(self, color): return color is Color.RED
    def color(self): return Color.BLUE
    def box(self, side): return Box(side)
    def boxes(self): return [Box(1), Box(2)]
    def never(self): return Never(1)
    def kind(self): return Shop.Kind.K
    def plain(self): return Shop.Plain.P
    def missing(self): return Color("?")
    def text(self): return str(Color.RED)
    def loud(self): return Loud(1)
    def me(self): return [self, 1], {"me": self}
    def has(self, box): return box[0] is self
    def process(self, x: int): return self
"""


@pytest.fixture(scope="module", autouse=True)
def defined(kernel):
    kernel.run(CELL, ok=True)
    kernel.run("import copy, dataclasses, os\nshop = Shop()", ok=True)


def true(kernel, code):
    assert kernel.value(code) == "True", code


def test_enumerations_are_values_here_and_run_over_there(kernel):
    true(kernel, "shop.color() is Color.BLUE and Color('b') is Color.BLUE and Color['RED'] == 'r'")
    true(kernel, "shop.run(Color.RED, 'pid') != os.getpid()")
    true(kernel, "shop.same(Color.RED) and not shop.same(Color.BLUE)")
    true(kernel, "shop.back(Flags.X | Flags.Y) == Flags.X | Flags.Y and shop.run(Flags.X | Flags.Y, 'both')")
    true(kernel, "[shop.missing(), shop.text()] == [Color.RED, 'c-r']")
    true(kernel, "isinstance(shop.color(), Color) and len({Color.RED: 1, shop.missing(): 2}) == 1")
    true(kernel, "copy.deepcopy(Color.RED) is Color.RED")


def test_members_keep_what_their_init_gave_them(kernel):
    true(kernel, "shop.run(Planet.EARTH, 'g') == 3 and Planet.EARTH.mass == 6 and Planet.MARS.value == (8, 2)")
    true(kernel, "shop.back([Planet.EARTH])[0] is Planet.EARTH")


def test_value_classes_of_a_class(kernel):
    true(kernel, "shop.kind() is Shop.Kind.K and shop.run(Shop.Kind.K, 'label') == 'kind'")
    true(kernel, "shop.plain() is Shop.Plain.P")
    true(kernel, "Shop.default is Color.BLUE and shop.default is Color.BLUE")
    true(kernel, "other = Shop(mode=Color.BLUE)\n(other.mode, shop.mode) == (Color.BLUE, Color.RED)")
    true(kernel, "other.default = Color.RED\nother.default is Color.RED and Shop.default is Color.BLUE")


def test_named_tuples(kernel):
    assert kernel.value("Point(1), Point(3)._replace(y=4), Point(1) == (1, 2)") == "(Point(x=1, y=2), Point(x=3, y=4), True)"
    true(kernel, "shop.run(Point(3), 'sum') == 5")


def test_dataclasses_come_back_as_values(kernel):
    assert kernel.value("shop.box(3), shop.boxes()[1].side") == "(Box(side=3, color=<Color.RED: 'r'>), 2)"
    true(kernel, "isinstance(shop.box(3), Box) and shop.box(3) == shop.box(3) and shop.box(1) < shop.box(2)")
    true(kernel, "shop.run(shop.box(3), 'area') == 9 and Box(3).area() == 9")
    true(kernel, "Box(3).larger().side == 4 and dataclasses.replace(shop.box(1), side=5).side == 5")
    true(kernel, "value = shop.never()\nvalue.x = 7\nshop.back(value).x == 7 and not isinstance(value, Box)")


def test_values_are_shown_copied_and_sent_by_what_they_hold(kernel):
    assert kernel.value("shop.loud(), LoudPoint(1), copy.deepcopy(shop.loud())") == "(Loud(x=1), LoudPoint(x=1, y=2), Loud(x=1))"
    true(kernel, "loud = shop.loud()\nshop.back(loud).x == 1 and shop.back(LoudPoint(4)) == (4, 2)")
    assert kernel.run("loud.other").error == "CannotBeRemote"
    assert kernel.run("del loud").text("stderr") == ""


def test_frozen_dataclasses_travel_and_compare(kernel):
    true(kernel, "size = Size(3, height=2)\nshop.run(size, 'area') == 6 and size.area() == 6 and shop.run(size, 'area') == 6")
    true(kernel, "size == Size(3, 2) and size != Size(3) and Size(3, 2) in [size] and hash(size) == hash(Size(3, 2))")
    true(kernel, "copy.copy(size) is size and copy.deepcopy([size])[0] is size")
    kernel.run("%%remote\ndef uses_size(): return size.area()", ok=True)
    assert kernel.value("uses_size()") == "6"
    assert "frozen=True travels" in kernel.run("shop.run(Box(3), 'area')").traceback


def test_an_object_comes_back_as_itself_wherever_it_is(kernel):
    true(kernel, "(a, _), b = shop.me()\na is shop and b['me'] is shop and shop.has([shop]) and not shop.has([1])")
    true(kernel, "import asyncio, avlab\nasync def first():\n    async for item in avlab.Pipeline([[1], shop]).stream(): return item.value\n(await first()) is shop")


@pytest.mark.parametrize(
    "code",
    [
        "Color.RED.pid()",
        "Color.RED.upper_value",
        "str(Color.RED)",
        "Color('?')",
        "Planet.EARTH < Planet.MARS",
        "Shop.Kind.K.label()",
        "Point(1).sum()",
        "Typed(1) + Typed(2)",
        "Doubling(1)",
        "class Longer(Point): pass",
        "shop.box(3).area()",
        "shop.never() == shop.never()",
    ],
)
def test_no_method_of_theirs_runs_here(kernel, code):
    result = kernel.run(code)
    assert result.error == "CannotBeRemote"
    assert "%%remote" in result.traceback


def test_later_cells_use_and_extend_them(kernel):
    kernel.run(
        "%%remote\nclass Longer(Point):\n    def twice(self): return 2 * self.sum()\n"
        "def later(p): return p.twice(), Color.RED.upper_value, Planet.MARS.g()",
        ok=True,
    )
    assert kernel.value("later(Longer(1))") == "(6, 'R', 4.0)"


def test_members_that_code_makes_are_refused(kernel):
    result = kernel.run(
        "%%remote\nimport enum\nclass Odd(bytes, enum.Enum):\n    A = (1, 2)\n"
        "    def __new__(cls, n, m):\n        made = bytes.__new__(cls, n)\n        made._value_ = m\n        return made"
    )
    assert result.error == "CannotBeRemote"
    assert "plain cell or a module" in result.traceback


def test_remote_objects_in_other_remote_code(kernel):
    kernel.run("%%remote\nclass Held:\n    def __init__(self, n=1): self.n = n\n    def get(self): return self.n\nheld = Held(4)", ok=True)
    kernel.run(
        "%%remote\ndef uses(): return held.get()\ndef given(value=held): return value\n"
        "class Made:\n    def get(self, n=held.get()): return n\n    def make(self, box): return box[0](5).n\n"
        "get = Held.get\ndef by_method(): return get(Held(6))",
        ok=True,
    )
    for call, place in (("uses()", "global `held` used by uses"), ("given()", "default `value` of given")):
        result = kernel.run(call)
        assert result.error == "BundleError"
        assert f"{place}: this Held lives in a session of its own" in result.traceback
    assert kernel.value("Made().get(), Made().make([Held]), by_method()") == "(4, 5, 6)"

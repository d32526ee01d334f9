"""Packing here, loading in a fresh process."""

import fnmatch
import hashlib
import json
import linecache
import operator
import pickle
import pkgutil
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from avlab_executor.worker.load import load

from avlab.core.errors import BundleError, ConfigError, SecretRefused, UnknownNode
from avlab.core.message import BundleKind, File
from avlab.remote.arguments import pickle_argument
from avlab.remote.bundle import Construct, pack, pack_node, pack_source
from avlab.remote.manifest import MAX_FILES, check_files, python_version

LOADER = """
import os, pathlib, pickle, sys, traceback
from avlab_executor.worker.load import load
scratch = pathlib.Path(sys.argv[1])
os.chdir(scratch)
manifest, blobs, before, code = pickle.load(sys.stdin.buffer)
exec(before)
try:
    made = load(manifest, blobs, scratch)
    exec(code)
except BaseException:
    traceback.print_exc(file=sys.stdout)
"""


@pytest.fixture
def remote(tmp_path_factory):
    """Loads a pack in a fresh interpreter, runs statements about ``made`` there, returns what they print."""

    def run(packed, code, change=lambda manifest: manifest, before=""):
        scratch = tmp_path_factory.mktemp("scratch")
        given = pickle.dumps((change(packed.manifest), packed.blobs, before, code))
        command = [sys.executable, "-P", "-c", LOADER, str(scratch)]
        return subprocess.run(command, input=given, capture_output=True, check=True, timeout=60).stdout.decode().strip()

    return run


def cell(text, filename="/cells/1.py", **names):
    """Run text as a notebook cell; returns its namespace."""
    text = textwrap.dedent(text)
    space = {"__name__": "__main__", **names}
    linecache.cache[filename] = (len(text), None, text.splitlines(keepends=True), filename)
    exec(compile(text, filename, "exec"), space)
    return space


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with every kind of local module, importable here while the test runs."""
    files = {
        "effects.py": "from math import sqrt\nclass Filter:\n  gain = 2\n  def apply(self, x): return x * self.gain\ndef soft(x): return Filter().apply(x)\n",
        "kit/__init__.py": "from . import tools\nfrom .deep.inner import ONE\n",
        "kit/tools.py": "import effects\ndef twice(x): return effects.soft(x)\n",
        "kit/deep/__init__.py": "",
        "kit/deep/inner.py": "from ..tools import twice\nONE = 1\n",
        "space/leaf.py": "def fail(x):\n    raise ValueError(f'leaf {x}')\n",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    before = set(sys.modules)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("effects", "kit", "space"):
            del sys.modules[name]


CELL = """
from __future__ import annotations
import fractions
import kit, effects
from space import leaf
OFFSET = 3
class Edges:
    strength: float = 1.0
    def __init__(self, strength=1.0):
        self.strength = strength
    def process(self, x: fractions.Fraction) -> fractions.Fraction:
        import kit.deep.inner as inner
        return kit.tools.twice(x) * self.strength + OFFSET + inner.ONE
    def fail(self, x):
        leaf.fail(x)  # the cell's own line
"""


def test_a_class_runs_elsewhere_with_its_modules_and_an_edit_is_never_stale(project, remote):
    space = cell(CELL)
    packed = pack(Construct(space["Edges"], (), {"strength": 5}), base=project)
    modules = [
        "effects.py",
        "kit/__init__.py",
        "kit/deep/__init__.py",
        "kit/deep/inner.py",
        "kit/tools.py",
        "space/leaf.py",
    ]
    assert [f.path for f in packed.manifest.files if f.module] == modules
    assert remote(packed, "print(made.process(2))") == "24"
    (project / "effects.py").write_text((project / "effects.py").read_text().replace("gain = 2", "gain = 3"))
    again = pack(Construct(space["Edges"], (), {"strength": 5}), base=project)
    assert remote(again, "print(made.process(2))") == "34"
    assert len(set(again.blobs) - set(packed.blobs)) == 1  # only what was edited


def test_tracebacks_show_the_lines_of_the_cell_and_of_modules(project, remote):
    packed = pack(cell(CELL)["Edges"](), base=project)
    shown = remote(packed, "made.fail(7)")
    assert "leaf.fail(x)  # the cell's own line" in shown and "/cells/1.py" in shown
    assert "raise ValueError(f'leaf {x}')" in shown and "modules/space/leaf.py" in shown
    assert shown.endswith("ValueError: leaf 7")


def test_annotations_that_are_text_resolve_elsewhere(project, remote):
    packed = pack(cell(CELL)["Edges"], base=project)
    assert remote(packed, "import typing; print(typing.get_type_hints(made.process)['x'].__name__)") == "Fraction"


def test_an_instance_and_its_constructor(project, remote):
    space = cell("import os\nclass Where:\n  def __init__(self, *a, **k): self.pid, self.given = os.getpid(), (a, k)\n")
    inside = remote(
        pack(Construct(space["Where"], (1,), {"b": 2}), base=project), "print(made.given, made.pid == os.getpid())"
    )
    assert inside == "((1,), {'b': 2}) True"
    assert remote(pack(space["Where"](), base=project), "print(made.pid == os.getpid())") == "False"


def test_local_definitions_travel_by_name_and_as_they_are_on_disk(project, remote):
    import effects  # type: ignore[import-not-found]

    for thing, code in (
        (effects.soft, "made(2)"),
        (effects.Filter, "made().apply(2)"),
        (effects.Filter(), "made.apply(2)"),
    ):
        assert (
            remote(
                pack(thing, base=project),
                f"print({code}, sys.modules['effects'].__file__.endswith('modules/effects.py'))",
            )
            == "4 True"
        )
    old = effects.soft
    del sys.modules["effects"]  # as after an edit
    (project / "effects.py").write_text("def soft(x): return 'new'\n")
    assert remote(pack(cell("def f(x): return soft(x)\n", soft=old)["f"], base=project), "print(made(2))") == "new"


def test_kinds_of_definitions(project, remote):
    space = cell(
        """
        import abc, dataclasses, enum, functools, typing
        Number = typing.NewType("Number", int)
        class Base(abc.ABC):
            @abc.abstractmethod
            def go(self): ...
        class Colour(enum.Enum):
            RED = 1
        @dataclasses.dataclass
        class Point:
            x: int
            colour: Colour = Colour.RED
        @functools.cache
        def remembered(n): return n + 1
        class Child(Base):
            __slots__ = ("n",)
            def __init__(self): self.n = 1
            @property
            def double(self): return self.n * 2
            @staticmethod
            def static(): return 's'
            @classmethod
            def cls_name(cls): return cls.__name__
            def go(self): return super().go() or __class__.__name__, remembered(Number(self.n)), Point(3).colour.name
            async def later(self): return 1
            def many(self): yield from (1, 2)
        """
    )
    code = "import asyncio; print(made.go(), made.double, made.static(), made.cls_name(), asyncio.run(made.later()), list(made.many()))"
    assert remote(pack(space["Child"](), base=project), code) == "('Child', 2, 'RED') 2 s Child 1 [1, 2]"


def test_members_of_an_enumeration_keep_what_their_init_gave_them(project, remote):
    space = cell(
        """
        import enum
        class Planet(enum.Enum):
            EARTH = (6, 2)
            MARS = (8, 2)
            def __init__(self, mass, radius): self.mass, self._radius = mass, radius
            @property
            def gravity(self): return self.mass / self._radius
        def use(): return [p.gravity for p in Planet], Planet.MARS.value, Planet((6, 2)).name
        """
    )
    expected = "([3.0, 4.0], (8, 2), 'EARTH')"
    assert remote(pack(space["use"], base=project), "print(made())") == expected
    data, _ = pickle_argument(space["use"])  # also one that comes as an argument
    assert remote(pack(space["use"], base=project), f"print(pickle.loads({data!r})())") == expected


ARGUMENTS = """
from __future__ import annotations
import enum, functools, math, typing
class Shape:
    @functools.cached_property
    def size(self): return 3
    @functools.singledispatchmethod
    def name(self, x): return "other"
    @name.register
    def _(self, x: int): return "int"
@functools.lru_cache(maxsize=4)
def doubled(x): return 2 * x
@functools.singledispatch
def kind(x): return "other"
@kind.register
def _(x: int): return "int"
Meters = typing.NewType("Meters", int)
def noted(x: Shape, y: math.nan.__class__ = 1) -> Meters: return typing.get_type_hints(noted)["x"].__name__
def within(x): return typing.get_type_hints(within)["x"].__args__[0].__args__[0].__name__
within.__annotations__ = {
    "x": typing.Optional[typing.Callable[["Shape"], typing.List["Meters"]]],
    "y": typing.Literal["doubled"],
    "z": typing.Annotated["Meters", "kind"],
}
Secret = 1
class Level(enum.Enum):
    LOW = 1
    def __init__(self, n): self.twice = 2 * n
"""


@pytest.mark.parametrize(
    ("name", "code", "expected"),
    [
        ("Shape", "print(given().size, given().name(1), given().name('a'))", "3 int other"),
        ("doubled", "print(given(2), given(2), given.cache_info().hits, given.cache_parameters()['maxsize'])", "4 4 1 4"),
        ("kind", "print(given(1), given('a'))", "int other"),
        ("Meters", "print(given(3), given.__supertype__.__name__)", "3 int"),
        ("noted", "print(given(1))", "Shape"),
        ("within", "print(given(1), sorted(set(given.__globals__) & {'doubled', 'kind', 'Meters'}))", "Shape ['Meters']"),
        ("Level", "print(given.LOW.twice)", "2"),
    ],
)
def test_what_a_bundle_carries_comes_as_an_argument_too(project, remote, name, code, expected):
    space = cell(ARGUMENTS)
    packed = pack(space[name], base=project)
    assert remote(packed, f"given = made\n{code}") == expected
    data, _ = pickle_argument([space[name]])
    assert remote(pack(len), f"(given,) = pickle.loads({data!r})\n{code}") == expected


def test_arguments_that_a_module_has_go_by_name(remote):
    data, _ = pickle_argument([shutil.get_terminal_size, fnmatch._compile_pattern, pkgutil.get_importer])
    assert len(data) < 200
    assert remote(pack(len), f"import fnmatch\nprint(pickle.loads({data!r})[1] is fnmatch._compile_pattern)") == "True"


def test_a_hook_puts_originals_in_the_place_of_stand_ins(project, remote):
    space = cell("class Edges:\n  def twin(self): return Edges\n")
    real, stand_in = space["Edges"], type("Proxy", (), {})
    space["Edges"] = stand_in
    packed = pack(Construct(stand_in), base=project, originals=lambda obj: real if obj is stand_in else None)
    assert remote(packed, "print(type(made).__name__, made.twin() is type(made))") == "Edges True"


def test_files_and_folders_keep_their_places(project, remote):
    (project / "data/sub").mkdir(parents=True)
    (project / "data/a.txt").write_text("alpha")
    (project / "data/sub/b.bin").write_bytes(b"\0\1")
    (project / "data/plugin_here.py").write_text("VALUE = 7")
    (project / "data/link.txt").symlink_to("a.txt")
    (project / "data/around").symlink_to(".")
    packed = pack(
        cell("def f(): return open('data/a.txt').read(), open('data/link.txt').read()\n")["f"],
        base=project,
        files=["data"],
    )
    paths = ["data/a.txt", "data/link.txt", "data/plugin_here.py", "data/sub/b.bin"]
    assert [f.path for f in packed.manifest.files if not f.module] == paths
    assert (
        remote(packed, "import importlib; print(made(), importlib.import_module('data.plugin_here').VALUE)")
        == "('alpha', 'alpha') 7"
    )


def test_files_that_lead_outside_are_refused(project, tmp_path_factory):
    outside = tmp_path_factory.mktemp("outside")
    (outside / "secret.txt").write_text("x")
    (project / "inside").mkdir()
    (project / "inside/link").symlink_to(outside / "secret.txt")
    for files in (["inside"], ["inside/link"], [outside / "secret.txt"], ["../outside"], ["absent.txt"]):
        with pytest.raises(BundleError, match=r"outside of|No such file"):
            pack(len, base=project, files=files)
    (project / "keys").mkdir()
    (project / "keys/.env").write_text("A=b")
    with pytest.raises(SecretRefused, match=r"keys/\.env"):
        pack(len, base=project, files=["keys"])
    assert pack(len, base=project, files=["keys/.env"]).manifest.files
    with pytest.raises(BundleError, match=str(MAX_FILES)):
        check_files([File(str(n), "") for n in range(MAX_FILES + 1)])


def test_source_runs_where_its_imports_are(project, remote):
    text = textwrap.dedent(
        """
        import this_exists_on_the_executor_only as special
        import effects, dataclasses
        @dataclasses.dataclass
        class Edges:
            gain: "int" = 1
            def process(self, x):
                return effects.soft(x) * self.gain + OFFSET + special.VALUE, op.add(1, 1), TABLE
            def fail(self):
                raise KeyError("here")
        """
    )
    state = {"OFFSET": 100, "op": operator, "TABLE": {(1, 2): b"x"}, "unused": object()}
    packed = pack_source(text, "/cells/9.py", "Edges", state=state, base=project, arguments=((), {"gain": 10}))
    assert packed.manifest.kind is BundleKind.SOURCE and packed.missing == ["this_exists_on_the_executor_only"]
    assert sorted(json.loads(packed.blobs[packed.manifest.object])["state"]) == ["OFFSET", "TABLE", "op"]
    packed = replace(packed, manifest=replace(packed.manifest, python="2.7"))  # any Python will do
    fake = "module = type(sys)('x'); module.VALUE = 1000; sys.modules['this_exists_on_the_executor_only'] = module"
    assert remote(packed, "print(made.process(2))", before=fake) == "(1140, 2, {(1, 2): b'x'})"
    assert 'raise KeyError("here")' in remote(packed, "made.fail()", before=fake)
    assert "ModuleNotFoundError" in remote(packed, "")


def test_source_refuses_what_it_cannot_carry(project):
    space = cell("def helper(): return 1\n")
    with pytest.raises(BundleError, match=r"global `helper` used by /cells/9\.py is helper, which no module defines"):
        pack_source("def f(): return helper()", "/cells/9.py", "f", state=space, base=project)
    with pytest.raises(BundleError, match="defines no 'g'"):
        pack_source("def f(): pass", "/cells/9.py", "g", base=project)
    with pytest.raises(BundleError, match="line 1"):
        pack_source("def f(:", "/cells/9.py", "f", base=project)


def test_nodes_by_name(remote):
    packed = pack_node("Resize", {"width": 640, "size": (1, 2)})
    assert packed.manifest.kind is BundleKind.NODE and json.loads(packed.manifest.config) == {
        "size": [1, 2],
        "width": 640,
    }
    for key, value in (("when", Fraction(1, 2)), ("table", {1: 2}), ("ratio", float("nan")), ("data", b"x")):
        with pytest.raises(ConfigError, match=f"parameter '{key}' of node 'Resize'"):
            pack_node("Resize", {"width": 1, key: value})
    with pytest.raises(UnknownNode, match=r"'Resise'.*Resize"):
        load(pack_node("Resise", {}).manifest, {}, Path())
    assert remote(pack_node("Resize", {"width": 640}), "print(type(made).__name__, made.width)") == "Resize 640"


def test_a_shipped_module_never_hides_an_installed_one(tmp_path, remote):
    content = b"STOLEN = True"
    sha = hashlib.sha256(content).hexdigest()
    packed = pack(len, base=tmp_path)
    packed = replace(packed, blobs={**packed.blobs, sha: content})

    def shipped(path):
        return lambda manifest: replace(manifest, files=(File(path, sha, len(content), module=True),))

    for path in ("json.py", "numpy/__init__.py", "av.py"):
        assert "has the name of one that is installed" in remote(packed, "", shipped(path))
    assert remote(packed, "import free_name; print(free_name.STOLEN)", shipped("free_name.py")) == "True"
    data = lambda manifest: replace(manifest, files=(File("colorsys.py", sha, len(content)),))  # noqa: E731
    assert remote(packed, "import colorsys; print(hasattr(colorsys, 'STOLEN'))", data) == "False"


def test_equal_content_has_equal_names_and_nothing_is_written_twice(project):
    space = cell(CELL)
    assert pack(space["Edges"], base=project).manifest == pack(space["Edges"], base=project).manifest


def test_explain_shows_names_and_sizes_but_no_contents(project):
    (project / "notes.txt").write_text("private words")
    packed = pack(cell(CELL)["Edges"], base=project, files=["notes.txt"])
    shown = packed.explain()
    for part in (
        "module  kit/tools.py",
        "file    notes.txt",
        "source  /cells/1.py",
        "captured: global `OFFSET` used by Edges.process, 8 bytes",
    ):
        assert part in shown
    assert (
        f"Python {python_version()}" in shown and "private words" not in shown and packed.manifest.object[:12] in shown
    )

"""Which local modules a text needs, and forgetting those that were edited."""

import ast
import gc
import importlib
import itertools
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from avlab.core.errors import BundleError
from avlab.remote.finder import Finder, Origin
from avlab.remote.imports import LoadedModules, Walk
from avlab.remote.source import free_names, imports


def write(base: Path, files: dict[str, str]) -> Path:
    for path, text in files.items():
        (base / path).parent.mkdir(parents=True, exist_ok=True)
        (base / path).write_text(text)
    return base


def walked(base: Path, text: str, **options) -> Walk:
    walk = Walk(Finder(base), **options)
    walk.text(text, "cell")
    return walk


def needed(base: Path, text: str) -> list[str]:
    return sorted(module.spot.path for module in walked(base, text).modules.values())


TREE = {
    "alone.py": "",
    "pack/__init__.py": "from . import one\nfrom .deep import *\n",
    "pack/one.py": "from .two import thing",
    "pack/two.py": "thing = 1",
    "pack/lazy.py": "",
    "pack/deep/__init__.py": "__all__ = ['inner']",
    "pack/deep/inner.py": "from ..two import thing\nfrom .. import lazy",
    "space/part/leaf.py": "import alone",
    "unused.py": "",
}


@pytest.mark.parametrize(
    ("text", "paths"),
    [
        ("import alone", ["alone.py"]),
        ("import alone as a, json", ["alone.py"]),
        ("import space.part.leaf", ["alone.py", "space/part/leaf.py"]),
        ("from space.part import leaf", ["alone.py", "space/part/leaf.py"]),
        ("from space import part", []),
        ("def f():\n  import alone", ["alone.py"]),
        ("async def f():\n  async with x:\n    import alone", ["alone.py"]),
        ("import importlib\nimportlib.import_module('alone')", ["alone.py"]),
        (
            "from importlib import import_module\nm = import_module('space.part.leaf')",
            ["alone.py", "space/part/leaf.py"],
        ),
        ("__import__('alone')", ["alone.py"]),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n  import absent\nelse:\n  import alone", ["alone.py"]),
        ("import typing as t\nif not t.TYPE_CHECKING:\n  import alone\nelse:\n  import absent", ["alone.py"]),
        ("if __name__ == '__main__':\n  import alone", ["alone.py"]),
        ("try:\n  import absent\nexcept ImportError:\n  import alone", ["alone.py"]),
        ("x = 'import alone'", []),
    ],
)
def test_a_text_needs_the_modules_it_imports(tmp_path, text, paths):
    assert needed(write(tmp_path, TREE), text) == paths


def test_packages_bring_their_parents_relative_and_starred_imports(tmp_path):
    write(tmp_path, TREE)
    everything = ["__init__", "deep/__init__", "deep/inner", "lazy", "one", "two"]
    assert needed(tmp_path, "import pack.two") == [f"pack/{name}.py" for name in everything]


@pytest.mark.parametrize(
    "text",
    [
        "try:\n  import absent\nexcept ImportError: pass",
        "try:\n  import absent\nexcept (KeyError, ModuleNotFoundError): pass",
        "try:\n  import absent\nexcept Exception: pass",
        "try:\n  import absent\nexcept: pass",
        "try:\n  import json\nexcept ImportError:\n  import absent",
        "import contextlib\nwith contextlib.suppress(ImportError):\n  import absent",
        "import sys\nif sys.version_info < (3, 11):\n  import absent",
        "import os\nif os.name == 'nt':\n  import absent",
        "import importlib.util\nif importlib.util.find_spec('absent'):\n  import absent",
        "import guarded_only",
    ],
)
def test_an_import_that_may_fail_is_no_error(tmp_path, text):
    write(
        tmp_path,
        {
            "guarded_only.py": "try:\n  import needs_absent\nexcept ImportError: pass",
            "needs_absent.py": "import absent",
        },
    )
    assert "absent" in walked(tmp_path, text).missing


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("import absent", 1),
        ("\n\nfrom absent.deep import x", 3),
        ("def f():\n  import absent", 2),
        ("try:\n  import absent\nexcept KeyError: pass", 2),
        ("try:\n  import absent_too\nexcept ImportError:\n  import absent", 4),
        ("try:\n  pass\nexcept ImportError: pass\nelse:\n  import absent", 5),
        ("import pack.absent", 1),
        ("from space import absent", 1),
        ("from . import absent", 1),
    ],
)
def test_an_import_that_resolves_nowhere_names_itself_and_its_line(tmp_path, text, line):
    with pytest.raises(BundleError, match=rf"absent.* at cell, line {line}\b"):
        needed(write(tmp_path, TREE), text)


def test_errors_in_modules_name_the_module_file(tmp_path):
    write(tmp_path, {"outer.py": "import inner", "inner.py": "\nimport absent", "broken.py": "\n\ndef:"})
    with pytest.raises(BundleError, match=r"inner\.py, line 2"):
        needed(tmp_path, "import outer")
    with pytest.raises(BundleError, match=r"broken\.py, line 3"):
        needed(tmp_path, "import broken")


def test_imports_that_only_the_executor_has_are_noted_when_that_is_allowed(tmp_path):
    walk = walked(write(tmp_path, TREE), "import torch_of_the_server.nn, alone", missing_ok=True)
    assert walk.missing == {"torch_of_the_server.nn"} and set(walk.modules) == {"alone"}
    with pytest.raises(BundleError, match=r"pack\.absent"):
        walked(tmp_path, "import pack.absent", missing_ok=True)


def test_compiled_local_modules_cannot_travel(tmp_path):
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    write(tmp_path, {f"fast{suffix}": "", "uses.py": "try:\n  import fast\nexcept ImportError:\n  fast = None"})
    with pytest.raises(BundleError, match="compiled extension"):
        needed(tmp_path, "import fast")
    assert needed(tmp_path, "import uses") == ["uses.py"]


def test_a_local_module_named_like_an_installed_one_is_refused_where_it_is_meant(tmp_path, monkeypatch):
    write(tmp_path, {"hypothesis.py": "", "json.py": "", "numpy/readme.txt": ""})
    assert needed(tmp_path, "import json, hypothesis, numpy") == []  # loaded from where they are installed
    monkeypatch.delitem(sys.modules, "json")
    with pytest.raises(BundleError, match=r"'json'.*rename"):
        needed(tmp_path, "import json")


def test_nothing_is_executed(tmp_path):
    write(tmp_path, {"explosive/__init__.py": "raise SystemExit", "explosive/part.py": "raise SystemExit"})
    assert needed(tmp_path, "import explosive.part") == ["explosive/__init__.py", "explosive/part.py"]


def test_what_a_text_reads_and_binds():
    text = "import a.b as c, d.e\nx = y + z\nn += 1\nm = m or c\nclass K:\n  def go(self, p):\n    w = v(p)\nfor i in r: print(i, K)\n"
    free, bound = free_names(text)
    assert free == {"y", "z", "v", "n", "m", "r", "print"} and bound == {"c", "d", "x", "K", "n", "m", "i"}


def test_import_records_print_as_they_are_written():
    assert [str(i) for i in imports("import a.b\nfrom ..c import d, e")] == ["import a.b", "from ..c import d, e"]


names = st.sampled_from(["ada", "bea", "cyd"])
trees = st.dictionaries(st.lists(names, min_size=1, max_size=3).map(tuple), st.booleans(), min_size=1, max_size=6)


@given(trees, st.data())
def test_the_walk_finds_what_python_would_import(tmp_path_factory, tree, data):
    """Any tree of packages, namespace packages and modules: every file the import system would run, the walk finds."""
    base = tmp_path_factory.mktemp("tree")
    for parts, package in tree.items():
        write(base, {"/".join(("top", *parts)) + ("/__init__.py" if package else ".py"): ""})
    target = ("top", *data.draw(st.sampled_from(sorted(tree))))
    folders, expected, found = [str(base)], set(), True
    for part in target:
        # Fresh finders, no namespace bookkeeping: each level is looked up as a top-level name in its parent's folders.
        specs = [
            importlib.machinery.FileFinder(f, (importlib.machinery.SourceFileLoader, [".py"])).find_spec(part)
            for f in folders
        ]
        spec = next((s for s in specs if s and s.loader), next(filter(None, specs), None))
        if spec is None:
            found = False
            break
        expected |= {spec.origin} if spec.has_location else set()
        folders = list(spec.submodule_search_locations or ())
    if found:
        walk = walked(base, f"import {'.'.join(target)}")
        assert {str(module.spot.file) for module in walk.modules.values()} == expected
    else:
        with pytest.raises(BundleError):
            walked(base, f"import {'.'.join(target)}")


counter = itertools.count()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A package and a module that uses it, with names of their own, imported."""
    n = next(counter)
    kit, user = f"kit{n}", f"user{n}"
    write(
        tmp_path,
        {f"{kit}/__init__.py": "", f"{kit}/part.py": "VALUE = 1", f"{user}.py": f"from {kit}.part import VALUE"},
    )
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path, kit, user
    for name in [name for name in sys.modules if name.partition(".")[0] in (kit, user)]:
        del sys.modules[name]


def test_edited_modules_and_their_users_are_imported_anew(project):
    base, kit, user = project
    loaded = LoadedModules()
    assert importlib.import_module(user).VALUE == 1
    loaded.note(base)
    for value in (2, 3, 4):  # same size, within one second: what a .pyc cannot tell apart
        (base / kit / "part.py").write_text(f"VALUE = {value}")
        assert loaded.reload_changed(base) == [f"{kit}.part", user]
        assert vars(importlib.import_module(user))["VALUE"] == value
        assert vars(importlib.import_module(kit).part)["VALUE"] == value
        loaded.note(base)
        assert loaded.reload_changed(base) == []


@pytest.mark.parametrize("bytecode", [True, False])
def test_an_edit_before_the_first_look_is_noticed(project, monkeypatch, bytecode):
    monkeypatch.setattr(sys, "dont_write_bytecode", not bytecode)
    base, kit, user = project
    importlib.import_module(user)
    (base / kit / "part.py").write_text("VALUE = 2")
    assert f"{kit}.part" in LoadedModules().reload_changed(base)


def test_a_file_older_than_the_last_look_is_what_was_imported(project, monkeypatch):
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    base, _, user = project
    loaded = LoadedModules(wall=lambda: (base / f"{user}.py").stat().st_mtime_ns + 10**9)
    importlib.import_module(user)
    assert loaded.reload_changed(base) == []


def test_a_changed_package_takes_its_modules_along(project):
    base, kit, user = project
    loaded = LoadedModules()
    importlib.import_module(user)
    loaded.note(base)
    (base / kit / "__init__.py").write_text("NEW = 1")
    assert loaded.reload_changed(base) == [kit, f"{kit}.part", user]
    assert importlib.import_module(f"{kit}.part").VALUE == 1
    assert importlib.import_module(kit).part.VALUE == 1


def test_deleted_and_installed_modules_stay(project):
    base, _, user = project
    loaded = LoadedModules()
    importlib.import_module(user)
    loaded.note(base)
    (base / f"{user}.py").unlink()
    assert loaded.reload_changed(base) == []
    assert Finder(base).origin("pytest") is Origin.INSTALLED
    assert Finder(base).origin("avlab.core") is Origin.INSTALLED


def test_a_module_in_the_encoding_that_it_declares(tmp_path: Path) -> None:
    write(tmp_path, {"alone.py": ""})
    (tmp_path / "latin.py").write_bytes("# -*- coding: latin-1 -*-\nimport alone\nname = 'é'\n".encode("latin-1"))
    assert needed(tmp_path, "import latin") == ["alone.py", "latin.py"]
    for text, words in (
        (b"name = '\xe9'", "latin.py: invalid or missing encoding declaration"),
        (b"\n\n\nname = '\xe9'", "latin.py is not utf-8"),
        (b"# coding: nonsense\n", "unknown encoding: nonsense"),
    ):
        (tmp_path / "latin.py").write_bytes(text)
        with pytest.raises(BundleError, match=f"{words}.*save it as UTF-8"):
            walked(tmp_path, "import latin")


def test_threads_that_read_source_at_once_do_not_disturb_each_other():
    """CPython 3.11 counts the depth of all trees that are being made in one number: SystemError, when a collection changes threads meanwhile."""
    text = "\n".join(f"def f{n}(x): import a{n}; return x + {n}" for n in range(50))
    others: list[threading.Thread] = []

    def give_way(*_: object) -> None:
        if not others and sys._getframe(1).f_code is ast.parse.__code__:
            others.append(threading.Thread(target=imports.__wrapped__, args=(text,)))
            others[0].start()
            others[0].join(0.5)

    usual = gc.get_threshold()
    gc.set_threshold(50)
    gc.callbacks.append(give_way)
    try:
        assert len(imports.__wrapped__(text)) == 50
    finally:
        gc.callbacks.remove(give_way)
        gc.set_threshold(*usual)
    others[0].join()

"""The layer rules, read from the source: who may import whom, where each heavy library lives, and what nobody writes."""

import ast
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = {"avlab": "avlab", "avlab_kernel": "kernel_ext/avlab_kernel", "avlab_executor": "executor/avlab_executor"}

# The first prefix that fits a module says which of our own modules it may import.
LAYERS = {
    "avlab.core.headers": ("avlab.core", "avlab._pb"),
    "avlab.core.wire": ("avlab.core", "avlab._pb"),
    "avlab.core.status": ("avlab.core", "avlab._pb"),
    "avlab.core": ("avlab.core",),
    "avlab._pb": (),
    "avlab.flow": ("avlab.core", "avlab.flow"),
    "avlab.remote": ("avlab.core", "avlab.remote"),
    "avlab.media": ("avlab.core", "avlab.media"),
    "avlab.testing": ("avlab.core", "avlab.testing"),
    "avlab.nodes": ("avlab.core", "avlab.flow", "avlab.remote", "avlab.media", "avlab.nodes"),
    "avlab_executor": ("avlab.core", "avlab.remote", "avlab_executor"),
    "avlab_kernel": ("avlab", "avlab.core", "avlab.flow", "avlab.remote", "avlab.media", "avlab_kernel"),
    "avlab": ("avlab",),
}
# Every library that is not Python's own has a home: the modules that may import it.
HOMES = {
    "aiohttp": r"avlab\.media\.signaling\b.*",
    "aioice": r"avlab\.media\.rtc\b.*",
    "aiortc": r"avlab\.media\.rtc\b.*",
    "anywidget": r"avlab_kernel\b.*",
    "av": r"avlab\.(media|nodes)\b.*",
    "numpy": r"avlab\.(media|nodes)\b.*",
    "docker": r"avlab_executor\.container\b.*",
    "cloudpickle": r"avlab\.remote\.(arguments|pickler|reductions)|avlab_executor\.worker\b.*",
    "google": r"avlab\._pb|avlab\.core\.(headers|wire|status)",
    "grpc": r"avlab\.remote\.links\.grpc\w*|avlab_executor\.(server|calls|health)",
    "IPython": r"avlab_kernel\b.*",
    "ipywidgets": r"avlab_kernel\b.*",
    "matplotlib": r"avlab_executor\.worker\b.*",
    "nbclient": r"avlab\.commands\.demo",
    "nbformat": r"avlab\.commands\.demo",
    "requests": r"avlab_executor\.container\b.*",
    "opentelemetry": r"avlab\.remote\.tracing|avlab_executor\.exporting",
    "prometheus_client": r"avlab_executor\.metrics",
    "segno": r"avlab\.media\.signaling\b.*",
    "traitlets": r"avlab\.commands\.demo|avlab_kernel\b.*",
}
UNPICKLES = r"avlab_executor\.worker\b.*"


@cache
def modules() -> dict[str, Path]:
    """Every module of the three packages by name."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = path.relative_to(ROOT / folder).with_suffix("").parts
            found[".".join((package, *(p for p in parts if p != "__init__")))] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    return ast.parse(modules()[module].read_text(), str(modules()[module]))


def imports(module: str, typing_too: bool = True) -> Iterator[str]:
    """Full names that a module imports anywhere, also inside functions; ours end at the module, not at a name in it."""
    path, root = modules()[module], tree(module)
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    hidden = set() if typing_too else {id(n) for block in ast.walk(root) if _for_typing(block) for n in ast.walk(block)}
    for node in ast.walk(root):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            origin = ".".join(base + (node.module.split(".") if node.module else []))
            for alias in node.names:
                inner = f"{origin}.{alias.name}"
                yield inner if inner in modules() else origin
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__"):
            yield from (a.value for a in node.args[:1] if isinstance(a, ast.Constant) and isinstance(a.value, str))


def _for_typing(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def _called(node: ast.Call) -> str:
    return ast.unparse(node.func).rpartition(".")[2]


def _ours(name: str) -> bool:
    return name.partition(".")[0] in PACKAGES


def _under(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def calls(*names: str) -> Iterator[tuple[str, ast.Call]]:
    """Calls of these functions or methods in all modules, as (module, call)."""
    for module in modules():
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.Call) and _called(node) in names:
                yield module, node


def test_each_layer_imports_only_what_lies_below_it() -> None:
    wrong = []
    for module in modules():
        layer = next(prefix for prefix in LAYERS if _under(module, prefix))
        for name in filter(_ours, imports(module)):
            whole = name in ("avlab", "avlab_kernel", "avlab_executor") and name not in LAYERS[layer]
            if whole or not any(_under(name, allowed) for allowed in LAYERS[layer]):
                wrong.append(f"{module} imports {name}")
    assert not wrong


def test_nodes_kernel_and_executor_never_import_each_other() -> None:
    tops = ("avlab.nodes", "avlab_kernel", "avlab_executor")
    wrong = [
        f"{module} imports {name}"
        for module in modules()
        for name in imports(module)
        for top in tops
        if _under(name, top) and not _under(module, top)
    ]
    assert not wrong


def test_each_library_is_imported_at_its_home_alone() -> None:
    wrong = []
    for module in modules():
        for top in {name.partition(".")[0] for name in imports(module) if not _ours(name)}:
            if top not in sys.stdlib_module_names and not re.fullmatch(HOMES.get(top, "nowhere"), module):
                wrong.append(f"{module} imports {top}")
    assert not wrong


def test_there_are_no_import_circles() -> None:
    graph = {m: {n for n in imports(m, typing_too=False) if n in modules() and n != m} for m in modules()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as circle:
        pytest.fail(" → ".join(circle.args[1]))


def test_modules_are_short() -> None:
    lengths = {module: len(path.read_text().splitlines()) for module, path in modules().items()}
    assert {module: n for module, n in lengths.items() if n > 400} == {}
    assert statistics.median(n for n in lengths.values() if n > 1) <= 160


def test_user_objects_are_unpickled_in_the_worker_alone() -> None:
    loads = [
        (m, c) for m, c in calls("load", "loads", "Unpickler") if re.search("pickle|Unpickler", ast.unparse(c.func))
    ]
    assert loads, "nothing unpickles: this test no longer sees what it guards"
    assert [f"{m}:{c.lineno}" for m, c in loads if not re.fullmatch(UNPICKLES, m)] == []


def test_nobody_reads_the_wall_clock() -> None:
    assert [f"{m}:{c.lineno}" for m, c in calls("time", "now", "utcnow", "today") if _wall_clock(c)] == []


def _wall_clock(call: ast.Call) -> bool:
    return ast.unparse(call.func) in (
        "time.time",
        "datetime.now",
        "datetime.datetime.now",
        "datetime.utcnow",
        "date.today",
    )


def test_every_task_has_an_owner() -> None:
    dropped = {id(n.value) for m in modules() for n in ast.walk(tree(m)) if isinstance(n, ast.Expr)}
    assert [f"{m}:{c.lineno}" for m, c in calls("create_task", "ensure_future") if id(c) in dropped] == []


def test_every_queue_is_bounded() -> None:
    queues = calls("Queue", "LifoQueue", "PriorityQueue", "SimpleQueue")
    assert [f"{m}:{c.lineno}" for m, c in queues if not (c.args or c.keywords)] == []


def test_tracked_files_name_no_machine_and_no_package_index() -> None:
    banned = re.compile(rb"/wor" rb"k/|/root/|pypi\.org|pythonhosted|npmjs\.(org|com)|index" rb"-url|/opt/py" rb"pi")
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    files = [ROOT / name for name in listed.decode().split("\0") if name and name != "tests/unit/test_layers.py"]
    assert files
    assert [str(f.relative_to(ROOT)) for f in files if f.is_file() and banned.search(f.read_bytes())] == []

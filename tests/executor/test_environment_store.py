"""How environments are kept: built once for all who ask, bounded, stoppable, never half, never taken from who uses them."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from avlab_executor.environments import build, finish, interpreters, rooms
from avlab_executor.environments.installer import MAX_LINE, find_uv
from avlab_executor.environments.policy import Policy
from avlab_executor.environments.spec import Environment, Spec, wanted
from avlab_executor.environments.store import Store
from serving import until
from wheelhouse import FOLDER, make_source, make_wheel

from avlab.core.errors import Cancelled, ConfigError, Denied, EnvironmentFailed
from avlab.core.message import Bundle, BundleKind
from avlab.remote.requirements import normal

TIER = "namespaces"
MEGABYTE = 1 << 20


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("own")
    folder.chmod(0o755)  # the installer has a user of its own
    for name in ("first", "second", "third"):
        make_wheel(folder, name, files={f"{name}.bin": os.urandom(4 * MEGABYTE)})
    make_wheel(folder, "large", files={"large.bin": b"\0" * (64 * MEGABYTE)})
    make_wheel(folder, "climber", files={"../../../../climbed": b"x", "climber.py": b""})
    return folder


@pytest.fixture(autouse=True)
def configured(own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("UV", "PIP"):
        monkeypatch.setenv(f"{name}_NO_INDEX", "1")
    monkeypatch.setenv("UV_FIND_LINKS", f"{FOLDER},{own}")
    monkeypatch.setenv("PIP_FIND_LINKS", f"{FOLDER} {own}")


@pytest.fixture
def open_store(tmp_path: Path) -> Iterator[Callable[..., Store]]:
    """Stores on one folder, as several executors have them."""
    stores = []

    def make(removed: Callable[[str], None] = lambda key: None, **policy: object) -> Store:
        stores.append(
            Store(Policy(folder=str(tmp_path / "kept here"), **({"mode": "wheels"} | policy)), lambda: TIER, removed)
        )
        return stores[-1]

    yield make
    for store in stores:
        store.close()


def spec(*requirements: str, mode: str = "wheels") -> Spec:
    return Spec(interpreters.own(), normal(requirements), mode)


def built(store: Store, wanted: Spec) -> list[str]:
    return [line for line in store.build(wanted) if line]


def kept(store: Store) -> set[str]:
    return {folder.name for folder in (store.policy.place / "kept").iterdir()}


def modes(environment: Environment) -> set[str]:
    return {oct(path.stat().st_mode & 0o7777) for path in environment.folder.rglob("*") if not path.is_symlink()}


def test_it_is_built_once_and_nobody_can_change_it(open_store):
    store = open_store()
    assert built(store, spec("six==1.16.0"))[0] == "installing six==1.16.0"
    assert built(store, spec("Six == 1.16.0")) == []
    lease = store.lease(spec("six==1.16.0"))
    environment = lease.environment
    assert (environment.folder / "site/six.py").exists()
    assert (environment.folder / "site/__pycache__").is_dir()  # nobody else can write it
    assert modes(environment) <= {"0o755", "0o644"}
    assert {path.lstat().st_uid for path in environment.folder.rglob("*")} == {os.geteuid()}
    note = json.loads((environment.folder / finish.NOTE).read_text())
    assert (note["requirements"], note["packages"], note["hides"]) == (["six==1.16.0"], ["six-1.16.0"], [])
    assert sorted(path.name for path in environment.folder.iterdir()) == [finish.NOTE, "site"]
    lease.close()


def test_keys_tell_apart_what_is_different():
    keys = {spec(*r, mode=m).key for r in ([], ["six"], ["six==1"], ["six", "idna"]) for m in ("wheels", "any")}
    assert len(keys) == 8
    other = replace(interpreters.own(), executable="/usr/bin/another")
    assert replace(spec("six"), interpreter=other).key != spec("six").key
    assert spec("six", "idna").key == spec("idna", "SIX").key


def test_all_who_ask_at_once_share_one_build(open_store, monkeypatch):
    store, other = open_store(), open_store()
    runs: list[str] = []
    run = build.Build.run
    monkeypatch.setattr(build.Build, "run", lambda self, *args: (runs.append(str(self.spec)), run(self, *args)))
    told: list[list[str]] = []
    threads = [
        threading.Thread(target=lambda s=s: told.append(built(s, spec("first"))))
        for s in (store, store, store, other, other)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert runs == ["first"]
    assert len(told) == 5
    assert kept(store) == {spec("first").key}


def test_the_least_recently_used_go_first_and_those_in_use_stay(open_store):
    gone: list[str] = []
    store = open_store(gone.append, size=10 * MEGABYTE)  # room for two
    first, second, third = spec("first"), spec("second"), spec("third")
    built(store, first)
    built(store, second)
    lease = store.lease(first)  # now second is the one that was not used for longest
    built(store, third)
    assert (kept(store), gone) == ({first.key, third.key}, [second.key])
    elsewhere = open_store(gone.append, size=1)
    built(elsewhere, second)
    assert kept(store) == {first.key, second.key}  # the newest stays, whatever its size
    lease.close()
    built(elsewhere, third)
    assert kept(store) == {third.key}
    for each, builds, removed in ((store, 3, 1), (elsewhere, 2, 3)):
        figures = each.statistics()
        assert (figures.environments, figures.builds["built"], figures.removed) == (1, builds, removed)
        assert 4 * MEGABYTE <= figures.bytes < 8 * MEGABYTE


def test_a_lease_builds_what_has_gone(open_store):
    store = open_store()
    with pytest.raises(EnvironmentFailed, match="no-such-package"):
        store.lease(spec("no-such-package"))
    lease = store.lease(spec("six==1.16.0"))
    assert (lease.environment.folder / "site/six.py").exists()
    lease.close()


def test_a_builder_that_is_killed_leaves_nothing_that_counts(open_store, tmp_path):
    store = open_store()
    code = (
        "import sys, os; from avlab_executor.environments.store import Store; from avlab_executor.environments.policy import Policy\n"
        "from avlab_executor.environments.spec import Spec; from avlab_executor.environments import interpreters\n"
        "from avlab.remote.requirements import normal\n"
        "store = Store(Policy('wheels', folder=sys.argv[1]), lambda: 'namespaces', print)\n"
        "for line in store.build(Spec(interpreters.own(), normal(['large']), 'wheels')): print(line, flush=True)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(store.policy.place)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "installing large\n"
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.communicate()
    assert until(lambda: not any(child.is_running() and child.status() != "zombie" for child in children))
    assert kept(store) == set()
    built(store, spec("six==1.16.0"))  # clears up behind others too
    assert list((store.policy.place / "building").iterdir()) == []
    built(store, spec("large"))
    assert spec("large").key in kept(store)


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"seconds": 0.05}, "longer than 0.05 s"),
        ({"disk": 8 * MEGABYTE}, "cannot be installed"),  # the size of one file, before that of all
        ({"memory": 4 * MEGABYTE}, "memory"),
        ({"processes": 1}, "cannot be installed"),
    ],
)
def test_limits_of_a_build(open_store, policy, words):
    store = open_store(**policy)
    with pytest.raises(EnvironmentFailed, match=words):
        built(store, spec("large"))
    assert kept(store) == set()
    assert list((store.policy.place / "building").iterdir()) == []


@pytest.mark.parametrize("tick", [0.05, 60.0], ids=["on the way", "at its end"])
def test_many_files_together_are_bounded_too(open_store, own, monkeypatch, tick):
    make_wheel(own, "many", files={f"many/{n}.bin": os.urandom(MEGABYTE) for n in range(24)})
    monkeypatch.setattr(build, "TICK", tick)
    store = open_store(disk=12 * MEGABYTE)
    with pytest.raises(EnvironmentFailed, match="more than 12 MiB of disk"):
        built(store, spec("many"))


def test_who_leaves_stops_it_and_who_stays_has_it(open_store):
    store = open_store()
    before = set(psutil.Process().children(recursive=True))
    lines = store.build(spec("large"))
    assert next(lines) == "installing large"
    lines.close()
    assert until(lambda: set(psutil.Process().children(recursive=True)) == before)
    assert until(lambda: not list((store.policy.place / "building").iterdir()))
    assert kept(store) == set()
    leaving, staying = store.build(spec("large")), store.build(spec("large"))
    assert next(leaving) and next(staying)
    leaving.close()
    assert "ready" in [line for line in staying if line][-1]


def test_closing_the_store_stops_what_it_builds(open_store):
    store = open_store()
    lines = store.build(spec("large"))
    next(lines)
    store.close()
    with pytest.raises(Cancelled):
        list(lines)
    with pytest.raises(Cancelled, match="closed"):
        list(store.build(spec("first")))


def test_a_wheel_cannot_climb_out_of_its_folder(open_store, tmp_path):
    store = open_store()
    with contextlib.suppress(EnvironmentFailed):
        built(store, spec("climber"))
    assert not list(tmp_path.parent.rglob("climbed"))


def test_secrets_of_an_index_are_not_told(open_store, monkeypatch):
    for name in ("UV_NO_INDEX", "PIP_NO_INDEX", "UV_FIND_LINKS"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://user:hidden-word@127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    told: list[str] = []
    with pytest.raises(EnvironmentFailed) as caught:
        for line in open_store().build(spec("six")):
            told.append(line)
    assert "127.0.0.1:9" in str(caught.value)
    assert "hidden-word" not in str(caught.value) + "".join(told)


def test_pip_installs_where_there_is_no_uv(open_store, monkeypatch):
    assert find_uv() is not None, "uv is not installed: pip install 'avlab[environments]'"
    monkeypatch.setattr("avlab_executor.environments.installer.find_uv", lambda: None)
    store = open_store()
    lines = built(store, spec("six==1.16.0"))
    assert any("Successfully installed six-1.16.0" in line for line in lines)
    lease = store.lease(spec("six==1.16.0"))
    assert (lease.environment.folder / "site/six.py").exists()
    lease.close()
    with pytest.raises(EnvironmentFailed, match="no-such-package"):
        built(store, spec("no-such-package"))


@pytest.mark.parametrize("found", [True, False])
def test_a_dependency_that_is_named_by_its_address_is_not_built(open_store, own, tmp_path, monkeypatch, found):
    if not found:
        monkeypatch.setattr("avlab_executor.environments.installer.find_uv", lambda: None)
    source = make_source(
        own, "sly", "import os\nos.mkdir(os.path.join(os.environ['HOME'], 'ran'))\nprint('this ran')\n"
    )
    make_wheel(own, "leads_there", requires=[f"sly @ file://{source}"])
    told: list[str] = []
    with pytest.raises(EnvironmentFailed, match=r"URL dependency|nothing is built"):
        for line in open_store().build(spec("leads-there")):
            told.append(line)
    assert "this ran" not in told


SPY = """
import ctypes, json, os, subprocess, sys
def attempt(f):
    try:
        f()
        return 0
    except OSError as error:
        return error.errno
def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    import base64, hashlib, zipfile
    libc, caps = ctypes.CDLL(None), (ctypes.c_uint32 * 6)()
    libc.capget(ctypes.byref((ctypes.c_uint32 * 2)(0x20080522, 0)), caps)
    seen = {
        'uid': os.getuid(), 'caps': list(caps), 'bounding': sum(libc.prctl(23, n, 0, 0, 0) == 1 for n in range(41)),
        'no_new_privs': libc.prctl(39, 0, 0, 0, 0),
        'secret': attempt(lambda: open(SECRET).read()),
        'list': attempt(lambda: os.listdir(os.path.dirname(SECRET))),
        'write': attempt(lambda: open('/usr/spied', 'w')),
        'python': attempt(lambda: open(os.path.join(sys.prefix, 'spied'), 'w') if not sys.prefix.startswith(os.environ['HOME'].rpartition('/')[0]) else open('/usr/spied', 'w')),
        'kept': attempt(lambda: os.listdir(KEPT)),
        'environ': sorted(os.environ),
        'host': attempt(lambda: open(f'/proc/{HOST}/environ').read()),
        'signal': attempt(lambda: os.kill(HOST, 0)),
        'core_pattern': attempt(lambda: open('/proc/sys/kernel/core_pattern', 'w')),
    }
    null = subprocess.DEVNULL  # uv waits for who holds its pipes
    subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], stdin=null, stdout=null, stderr=null, start_new_session=True)
    name = 'spy-1.0-py3-none-any.whl'
    with zipfile.ZipFile(os.path.join(wheel_directory, name), 'w') as archive:
        archive.writestr('spy.json', json.dumps(seen))
        archive.writestr('spy-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: spy\\nVersion: 1.0\\n')
        archive.writestr('spy-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
        archive.writestr('spy-1.0.dist-info/RECORD', '')
    return name
"""


@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
def test_code_that_builds_a_package_is_confined(own, tmp_path, monkeypatch, tier):
    secret = tmp_path / "secret"
    secret.write_text("s")
    monkeypatch.setenv("AVLAB_TEST_TOKEN", "a secret of the host")
    place = tmp_path / "environments"
    names = f"HOST = {os.getpid()}\nSECRET = {str(secret)!r}\nKEPT = {str(place / 'kept')!r}\n"
    make_source(own, "spy", names + SPY)
    with pytest.raises(EnvironmentFailed, match="wheel"):
        built(Store(Policy("wheels", folder=str(place)), lambda: tier, print), spec("spy"))
    before = set(psutil.Process().children(recursive=True))
    store = Store(Policy("any", folder=str(place)), lambda: tier, print)
    lease = store.lease(spec("spy", mode="any"))
    seen = json.loads((lease.environment.folder / "site/spy.json").read_text())
    lease.close()
    store.close()
    assert set(psutil.Process().children(recursive=True)) == before  # what it left running is gone
    check_confined(seen)
    assert tier == "landlock" or os.geteuid() != 0 or seen["uid"] != 0


@pytest.mark.parametrize("tier", ["namespaces", "landlock"])
def test_an_ordinary_users_installer_is_confined_too(tier):
    interpreter = f"/usr/bin/python3.{sys.version_info.minor}" if os.geteuid() == 0 else sys.executable
    assert os.access(interpreter, os.X_OK), f"no {interpreter} to run as another user: install it"
    packages = next(path for path in sys.path if path.endswith("site-packages"))
    checkout = Path(__file__).parents[2]
    with tempfile.TemporaryDirectory() as name:  # pytest's own folders are closed to others
        folder = Path(name)
        for each in (folder, folder / "environments", folder / "sources"):
            each.mkdir(exist_ok=True)
            each.chmod(0o777)
        (folder / "secret").write_text("s")
        names = f"HOST = {os.getpid()}\nSECRET = {name + '/secret'!r}\nKEPT = {name + '/environments/kept'!r}\n"
        make_source(folder / "sources", "spy", names + SPY)
        environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",  # uv lies there
            "PYTHONPATH": ":".join([packages, str(checkout), str(checkout / "executor")]),
            "UV_NO_INDEX": "1",
            "UV_FIND_LINKS": f"{name}/sources",
            "HOME": name,
        }
        command = [
            interpreter,
            str(Path(__file__).with_name("ordinary_builder.py")),
            f"{name}/environments",
            tier,
            "spy",
        ]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, cwd="/")
    assert done.returncode == 0, done.stderr
    check_confined(json.loads(done.stdout))


def check_confined(seen: dict[str, Any]) -> None:
    """What the code of SPY has found."""
    refused = (1, 2, 3, 13, 30)  # EPERM, ENOENT, ESRCH, EACCES, EROFS
    for name in ("secret", "list", "write", "python", "kept", "core_pattern", "host", "signal"):
        assert seen[name] in refused, name
    assert seen["caps"] == [0] * 6
    assert seen["bounding"] == 0 or seen["uid"] != 0  # only root can empty it
    assert seen["no_new_privs"] == 1
    assert "AVLAB_TEST_TOKEN" not in seen["environ"]


def test_source_is_not_built_where_nothing_confines_it(open_store):
    store = open_store(mode="any")
    store._confined = lambda: "process"
    with pytest.raises(EnvironmentFailed, match="confines"):
        built(store, spec("six==1.16.0", mode="any"))


def test_environments_may_lie_within_a_folder_that_the_installer_reads(own):
    store = Store(Policy("wheels", folder=str(own / "environments")), lambda: TIER, print)
    try:
        assert "ready" in built(store, spec("six==1.16.0"))[-1]
    finally:
        store.close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    place = tmp_path / "file"
    place.write_text("")
    store = Store(Policy("wheels", folder=str(place)), lambda: TIER, print)
    with pytest.raises(EnvironmentFailed, match="cannot be kept in"):
        built(store, spec("six"))
    store.close()


def test_a_policy_says_what_it_does_not_allow():
    with pytest.raises(Denied, match="--pip-policy"):
        Policy("off").check(normal(["six"]))
    Policy("wheels", allow=("Six",)).check(normal(["six"]))
    with pytest.raises(Denied, match="idna"):
        Policy("wheels", allow=("six",)).check(normal(["six", "idna"]))
    for wrong in ({"mode": "some"}, {"size": 0}, {"seconds": -1}):
        with pytest.raises(ConfigError):
            Policy(**wrong)


@pytest.mark.parametrize("python", ["-evil", "/../python-evil", "3.11-evil", "3.9\n", "٣.11"])
def test_a_version_of_python_is_not_the_name_of_a_program(tmp_path, monkeypatch, python):
    """It is looked for as a program of that name, which is started and asked."""
    for name in (f"python{python.strip()}", "python-evil"):
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\ntouch {tmp_path}/was-run\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    for kind in BundleKind:
        with pytest.raises(ConfigError, match="minor version"):
            wanted(Bundle(kind, python=python), Policy("wheels"))
    assert not (tmp_path / "was-run").exists()


def test_what_an_installer_says_is_bounded():
    made = build.Build(spec("six"))
    for number in range(build.MAX_LINES + 50):
        made.say(f"{number} " + "x" * 1000 + "\x1b[31m")
    made.outcome.set_result(None)
    lines = list(made.follow())
    assert len(lines) == build.MAX_LINES
    assert {len(line) <= MAX_LINE and line.isprintable() for line in lines} == {True}


def test_only_so_many_build_at_once(open_store, monkeypatch):
    store = open_store(builds=1)
    at_work: list[str] = []
    overlaps: list[list[str]] = []

    def run(self: build.Build, folder: Path, *_: object) -> None:
        at_work.append(str(self.spec))
        overlaps.append(list(at_work))
        (folder / "site").mkdir()
        finish.finish(folder, self.spec)
        at_work.remove(str(self.spec))

    monkeypatch.setattr(build.Build, "run", run)
    threads = [threading.Thread(target=lambda n=n: built(store, spec(n))) for n in ("first", "second", "third")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(overlaps) == [["first"], ["second"], ["third"]]


def test_downloads_are_emptied_when_they_have_grown(open_store):
    store = open_store(disk=12 * MEGABYTE)
    downloads = store.policy.place / "downloads"
    downloads.mkdir(parents=True)
    (downloads / "old").write_bytes(b"x" * 13 * MEGABYTE)
    built(store, spec("six==1.16.0"))
    assert downloads.is_dir()
    assert not (downloads / "old").exists()


class FakePool:
    """Stands for a pool of workers."""

    def __init__(self) -> None:
        self.closed = False

    def close(self) -> None:
        self.closed = True


def test_rooms_without_a_session_are_few_and_those_with_one_stay(open_store, monkeypatch):
    def run(self: build.Build, folder: Path, *_: object) -> None:
        (folder / "site").mkdir()
        finish.finish(folder, self.spec)

    monkeypatch.setattr(build.Build, "run", run)
    store = open_store(size=1)
    pools: list[FakePool] = []

    def make(tier: str, environment: Environment) -> Any:
        pools.append(FakePool())
        return pools[-1]

    found = rooms.Rooms(store, make)
    names = [f"p{number}" for number in range(rooms.IDLE + 3)]
    _, leave_first = found.enter("", spec(names[0]))
    for name in names[1:]:
        _, leave = found.enter("", spec(name))
        leave()
    assert found.enter("", spec(names[0]))[0] is pools[0]
    assert [pool.closed for pool in pools].count(
        False
    ) == rooms.IDLE + 2  # one is at work, the newest was when others went
    assert not pools[0].closed
    assert spec(names[0]).key in kept(store)  # in use, whatever the bound on bytes
    leave_first()
    found.close()
    assert all(pool.closed for pool in pools)
    with pytest.raises(Cancelled):
        found.enter("", spec(names[1]))

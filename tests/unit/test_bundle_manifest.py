"""What a manifest may say: versions, blob names and paths that must not pass."""

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from avlab_executor.worker.load import load
from hypothesis import given
from hypothesis import strategies as st

from avlab.core.errors import BundleError, VersionMismatch
from avlab.core.message import Bundle, BundleKind, File
from avlab.remote.bundle import check_versions, pack
from avlab.remote.manifest import (
    MAX_BYTES,
    MAX_DEPTH,
    MAX_FILES,
    check_files,
    check_path,
    cloudpickle_version,
    python_version,
)


def test_versions_are_compared_as_numbers_before_anything_is_loaded():
    good = Bundle(python=python_version(), cloudpickle=cloudpickle_version(), object="0" * 64)
    check_versions(good)
    check_versions(replace(good, cloudpickle=".".join(cloudpickle_version().split(".")[:2]) + ".99"))
    wrong = {"wire": 2, "python": "3.1", "cloudpickle": "1.0"}
    for name, value in (*wrong.items(), ("python", ""), ("cloudpickle", "new"), ("python", "3")):
        with pytest.raises(
            VersionMismatch, match="wire" if name == "wire" else name.capitalize() if name == "python" else name
        ):
            load(replace(good, **{name: value}), {}, Path("/nowhere"))
    check_versions(Bundle(kind=BundleKind.SOURCE))
    check_versions(Bundle(kind=BundleKind.NODE))
    with pytest.raises(VersionMismatch):
        check_versions(Bundle(kind=BundleKind.SOURCE, wire=9))


def test_blobs_must_be_there_and_be_what_they_say(tmp_path):
    packed = pack(len, base=tmp_path)
    sha = packed.manifest.object
    with pytest.raises(BundleError, match="missing"):
        load(packed.manifest, {}, tmp_path)
    with pytest.raises(BundleError, match="content"):
        load(packed.manifest, {sha: packed.blobs[sha] + b"."}, tmp_path)
    with pytest.raises(BundleError, match="not a sha256"):
        load(replace(packed.manifest, object="../x"), packed.blobs, tmp_path)
    with pytest.raises(BundleError, match="the manifest says 5"):
        load(replace(packed.manifest, files=(File("a", sha, 5),)), packed.blobs, tmp_path)
    sha = hashlib.sha256(b"{}").hexdigest()
    with pytest.raises(BundleError, match="source blob"):
        load(Bundle(kind=BundleKind.SOURCE, object=sha), {sha: b"{}"}, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/etc/passwd",
        "..",
        "a/../b",
        "./a",
        "a//b",
        "a/",
        "C:/x",
        "a\\b",
        "a\0b",
        "a\nb",
        "x" * 256,
        "a/" * 600 + "b",
        "a/" * (MAX_DEPTH + 1) + "b",
    ],
)
def test_paths_that_are_refused(path):
    with pytest.raises(BundleError):
        check_path(path)


@pytest.mark.parametrize(
    "path",
    ["con", "a/NUL.txt", "com1.py", "LPT9", "aux ", "a/b.", "a ", "COM¹", "conout$", "a/x?y", "a*", "<a", "ab:c"],
)
def test_names_that_mean_something_else_on_windows_are_refused_there(path):
    check_path(path, windows=False)
    with pytest.raises(BundleError, match="Windows"):
        check_path(path, windows=True)


@pytest.mark.parametrize("path", ["console.py", "a/com10", "auxiliary", "lpt", ".hidden", "null.txt", "a" * 255])
def test_names_that_only_look_like_those_pass(path):
    check_path(path, windows=True)


def test_counts_and_bytes_of_files_are_bounded():
    many = [File(f"f{number}", "") for number in range(MAX_FILES)]
    check_files(many)
    with pytest.raises(BundleError, match=f"above the limit of {MAX_FILES}"):
        check_files([*many, File("one more", "")])
    check_files([File("a", "", MAX_BYTES)])
    for sizes in ((MAX_BYTES, 1), (1 << 63, 1 << 63)):
        with pytest.raises(BundleError, match=f"above the limit of {MAX_BYTES}"):
            check_files([File("a", "", sizes[0]), File("b", "", sizes[1])])
    check_path("a/" * MAX_DEPTH + "b")


@pytest.mark.parametrize("config", [b"\xb5", b"{", b"[1]", b"[" * 100_000])
def test_parameters_that_are_no_object_are_refused(config, tmp_path):
    with pytest.raises(BundleError, match="parameters of node"):
        load(Bundle(kind=BundleKind.NODE, name="Resize", config=config), {}, tmp_path)


@pytest.mark.parametrize(
    "changed",
    [{"state": {"a": None}}, {"state": {"a": {}}}, {"state": 1}, {"args": True}, {"args": [1]}, {"kwargs": {"a": {"module": 1}}},
     {"filename": "a\0"}],
    ids=str,
)  # fmt: skip
def test_a_source_blob_that_is_not_what_its_format_says_is_refused(changed, tmp_path):
    content = {"text": "x = 1", "filename": "<cell>", "name": "x", "state": {}, **changed}
    blob = json.dumps(content).encode()
    sha = hashlib.sha256(blob).hexdigest()
    main = sys.modules["__main__"]
    try:
        with pytest.raises(BundleError):
            load(Bundle(kind=BundleKind.SOURCE, object=sha), {sha: blob}, tmp_path)
    finally:
        sys.modules["__main__"] = main


@pytest.mark.parametrize("paths", [("a", "a"), ("a.py", "A.PY"), ("é", "e\u0301"), ("a", "a/b"), ("straße", "STRASSE")])
def test_paths_that_meet_are_refused(paths):
    with pytest.raises(BundleError, match="rename"):
        check_files([File(path, "") for path in paths])


def test_a_data_file_cannot_take_the_place_of_a_module():
    with pytest.raises(BundleError, match="rename"):
        check_files([File("kit.py", "", module=True), File("modules/kit.py", "")])


@given(st.text(max_size=30) | st.lists(st.sampled_from(["a", "..", ".", "", "b\0", "c"]), max_size=6).map("/".join))
def test_a_path_that_passes_stays_below_its_folder(path):
    try:
        check_path(path)
    except BundleError:
        return
    root = Path("/some/scratch")
    assert (root / path).is_relative_to(root) and ".." not in Path(path).parts and "\0" not in path

"""The command line: what it lists, how it fails, how others join it."""

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from avlab import cli
from avlab.commands import doctor, named
from avlab.commands.nodes import describe
from avlab.core import registry
from avlab.core.errors import ConfigError, UnknownNode
from avlab.core.table import table


def test_without_a_command_it_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 0
    printed = capsys.readouterr()
    assert "demo" in printed.out and printed.err == ""


def test_an_error_is_one_line_and_exit_code_2(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["run", str(tmp_path / "absent.json")]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("avlab: ") and printed.count("\n") == 1 and "absent.json" in printed


@pytest.mark.parametrize("before", [True, False])
def test_traceback_may_stand_anywhere(before: bool, tmp_path: Path) -> None:
    words = ["run", str(tmp_path / "absent.json")]
    with pytest.raises(ConfigError):
        cli.main(["--traceback", *words] if before else [*words, "--traceback"])


def test_a_media_file_alone_is_told_what_is_missing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "film.mp4").write_bytes(b"\x00\x86")
    assert cli.main(["run", str(tmp_path / "film.mp4")]) == 2
    assert "a media file needs nodes and an output behind it" in capsys.readouterr().err


def test_a_broken_plug_in_is_named_and_left_out(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = EntryPoint("broken", "no_such_module:add_commands", "avlab.commands")
    monkeypatch.setattr(cli, "entry_points", lambda group: [broken])
    assert cli.main([]) == 0
    assert "no_such_module" in capsys.readouterr().err


def test_a_plug_in_adds_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    class Plugin:
        value = "plugin"

        def load(self):
            return lambda commands: commands.add_parser("three").set_defaults(run=lambda options: 3)

    monkeypatch.setattr(cli, "entry_points", lambda group: [Plugin()])
    assert cli.main(["three"]) == 3


def test_nodes_lists_every_registered_node(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["nodes", "--json"]) == 0
    listed = {entry["name"]: entry for entry in json.loads(capsys.readouterr().out)}
    assert [name for name, entry in listed.items() if entry["missing"] or not entry["summary"]] == []
    assert "width" in listed["Resize"]["parameters"]
    assert cli.main(["nodes"]) == 0
    assert "Resize" in capsys.readouterr().out


def test_a_node_whose_library_is_absent_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        registry, "_points", lambda: {"Ghost": EntryPoint("Ghost", "no_such_module:Ghost", "avlab.nodes")}
    )
    assert "no_such_module" in describe("Ghost").missing


def test_nodes_are_built_from_text() -> None:
    assert named.build("Resize(width=64)").width == 64
    assert named.build("fractions:Fraction(1, 3)").denominator == 3
    assert named.build("decimal:Decimal") == 0


@pytest.mark.parametrize(
    "text", ["Resize(width=", "Resize(width=open('x'))", "Resize(64).flush()", "no_module:X", "os:"]
)
def test_text_that_is_no_node_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        named.build(text)


def test_an_unknown_node_names_the_closest() -> None:
    with pytest.raises(UnknownNode, match="Resize"):
        named.build("Resise(width=1)")


def test_doctor_names_the_remedy_for_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "NEEDED", ("no-such-package",))
    (finding,) = (f for f in doctor.packages() if f.part == "no-such-package")
    assert not finding.ok and finding.remedy == "pip install no-such-package"


def test_a_table_wraps_its_last_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    lines = table(("a", "b"), [("x", "one two three four five six seven eight")]).split("\n")
    assert max(map(len, lines)) <= 40 and len(lines) == 4

"""The settings of a server: where they come from, which goes first, and how a wrong one is refused."""

import argparse
import logging
import sys
from pathlib import Path

import pytest
from avlab_executor import logs, serve, settings
from avlab_executor.audit import STRANGERS, Strangers, audit
from avlab_executor.tenants import Quota

from avlab.core.clock import FakeClock
from avlab.core.errors import ConfigError


def resolved(arguments: str = "", environment: dict[str, str] | None = None) -> dict:
    parser = argparse.ArgumentParser()
    settings.add_arguments(parser)
    return settings.resolve(vars(parser.parse_args(arguments.split())), environment or {})


@pytest.fixture
def file(tmp_path: Path):
    """Writes a configuration file, returns its path."""

    def write(text: str) -> Path:
        path = tmp_path / "executor.toml"
        path.write_text(text)
        return path

    return write


def sample(setting: settings.Setting, number: int) -> str:
    """A value of a setting as text; another for another number."""
    if setting.kind is settings.FLAG:
        return "true"
    if setting.kind is settings.HOST_AND_PORT:
        return f"127.0.0.1:{number}"
    kind, _, words = setting.kind.words.partition("one of ")
    return str(number) if kind else words.split(", ")[number % len(words.split(", "))]


@pytest.mark.parametrize("each", settings.SETTINGS, ids=lambda each: each.name)
def test_a_flag_goes_before_a_variable_and_a_variable_before_the_file(each, file) -> None:
    one, two, three = (each.value(sample(each, n), "", as_text=True) for n in (1, 2, 3))
    in_file = sample(each, 1)
    quoted = in_file if isinstance(one, int | float) or one is True else f'"{in_file}"'
    path = file(f"{each.name} = {quoted}\n")
    assert resolved()[each.name] == each.default
    assert resolved(f"--config {path}")[each.name] == one
    from_environment = {settings.PREFIX + "CONFIG": str(path), each.variable: sample(each, 2)}
    assert resolved("", from_environment)[each.name] == two
    flag = each.flag if each.kind is settings.FLAG else f"{each.flag}={sample(each, 3)}"
    assert resolved(flag, from_environment)[each.name] == three


@pytest.mark.parametrize(
    ("arguments", "environment", "text"),
    [
        ("--port 70000", {}, r"port=70000 \(from --port\): .*from 0 to 65535"),
        ("--port x", {}, r"port=x \(from --port\)"),
        (
            "",
            {"AVLAB_EXECUTOR_PORT": "tcp://10.0.0.1:7411"},
            "the variable AVLAB_EXECUTOR_PORT; Kubernetes.*enableServiceLinks",
        ),
        (
            "",
            {"AVLAB_EXECUTOR_SESSIONS": "0"},
            r"sessions=0 \(from the variable AVLAB_EXECUTOR_SESSIONS\): .*at least 1",
        ),
        ("", {"AVLAB_EXECUTOR_ALLOW_PROCESS": "maybe"}, "true or false"),
        ("--min-tier fortress", {}, r"min_tier=fortress \(from --min-tier\): .*gvisor, namespaces, landlock"),
        ("--min-tier process", {}, "min_tier=process"),
        ("--idle-exit nan", {}, "idle_exit=nan"),
        ("--idle-exit -1", {}, "idle_exit=-1"),
        ("--host a\x1bb", {}, r"host='a\\x1bb'"),
        ("--config /nonexistent/file.toml", {}, r"/nonexistent/file\.toml cannot be read: No such file"),
    ],
)
def test_a_wrong_value_is_named_with_its_place(arguments, environment, text) -> None:
    with pytest.raises(ConfigError, match=text):
        resolved(arguments, environment)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("port 1", r"executor\.toml is no TOML: .*line 1"),
        ("prot = 1", r"'prot' \(in .*executor\.toml\) is no setting: did you mean 'port'\?"),
        ("port = true", r"port=True \(in .*executor\.toml\)"),
        ('sessions = "4"', r"sessions=4 \(in .*executor\.toml\)"),
        ("[tenants.a]\nsession = 1", r"'session' \(in .*\[tenants\.a\]\) is no setting: did you mean 'sessions'"),
        ("[tenants.a]\nsessions = 0", r"quota sessions=0 .*\(in .*\[tenants\.a\]\)"),
        ("[quota]\ncpu_seconds = 'x'", r"quota cpu_seconds='x' .*\(in .*\[quota\]\)"),
        ("[tenants.a]\noperator = 1", r"operator=1 \(in .*\[tenants\.a\]\): it must be true or false"),
        ("tenants = 1", "write .tenants.NAME."),
        ("quota = 1", "quota. is no table"),
        ("[tenants]\na = 1", r"'a' \(in .*, \[tenants\]\) is no table"),
    ],
)
def test_a_wrong_file_is_named_with_its_key(content, text, file) -> None:
    with pytest.raises(ConfigError, match=text):
        resolved(f"--config {file(content)}")["tenants"]({})


def test_tenants_have_tokens_of_one_file_and_quotas_of_another(file, tmp_path) -> None:
    path = file("[quota]\nsessions = 4\ncpu_seconds = 60\n[tenants.alice]\nsessions = 8\noperator = true\n")
    tokens = tmp_path / "tokens"
    tokens.write_text("alice a-token\nbob b-token\n")
    config = serve.server_config(resolved(f"--config {path} --token-file {tokens}"), {})
    alice, bob = config.callers()
    assert (alice.name, alice.tokens, alice.quota, alice.operator) == ("alice", ("a-token",), Quota(8, 60), True)
    assert (bob.name, bob.tokens, bob.quota, bob.operator) == ("bob", ("b-token",), Quota(4, 60), False)
    tokens.write_text("bob b-token\n")
    with pytest.raises(ConfigError, match="tenant 'alice' has no token"):
        serve.server_config(resolved(f"--config {path} --token-file {tokens}"), {})


def test_the_example_of_the_documentation_is_one(file) -> None:
    text = (Path(__file__).parents[2] / "docs/operation.md").read_text()
    path = file(text.partition("```toml\n")[2].partition("```")[0])
    values = resolved(f"--config {path}")
    assert (values["host"], values["min_tier"], values["log_format"]) == ("0.0.0.0", "namespaces", "json")
    found = {tenant.name: tenant for tenant in values["tenants"]({"alice": ("a",), "ops": ("o",), "bob": ("b",)})}
    assert (found["alice"].quota.sessions, found["bob"].quota.sessions, found["ops"].operator) == (8, 4, True)


def test_the_only_tenant_is_the_operator() -> None:
    (alone,) = serve.server_config(resolved(), {}).callers()
    assert (alone.tokens, alone.operator) == ((), True)
    for name in ("AVLAB_EXECUTOR_TOKEN", "AVLAB_TOKEN"):
        (alone,) = serve.server_config(resolved(), {name: "token"}).callers()
        assert (alone.tokens, alone.operator) == (("token",), True)


def test_misspelt_variables_are_found() -> None:
    environment = {"AVLAB_EXECUTOR_PROT": "1", "AVLAB_EXECUTOR_PORT": "1", "AVLAB_EXECUTOR_TOKEN": "x", "OTHER": "x"}
    assert settings.unknown(environment) == ["AVLAB_EXECUTOR_PROT"]


def test_the_help_names_every_setting() -> None:
    parser = argparse.ArgumentParser()
    settings.add_arguments(parser)
    text = parser.format_help()
    assert all(each.flag in text and each.help.split()[0] in text for each in settings.SETTINGS)


# The log.


def record(message: str, *values: object, error: Exception | None = None) -> logging.LogRecord:
    info = (type(error), error, None) if error else None
    made = logging.LogRecord("avlab.executor", logging.INFO, "", 0, message, values, info)
    made.created = 0.5
    return made


def test_no_record_begins_a_line_of_its_own() -> None:
    evil = "x\n1970-01-01T00:00:00.000Z INFO avlab.audit forged\r\x1b[2J"
    shown = logs.TextFormatter().format(record("got %s", evil, error=ValueError(evil)))
    first, *rest = shown.split("\n")
    assert first == (
        r"1970-01-01T00:00:00.500Z INFO avlab.executor got x\n1970-01-01T00:00:00.000Z INFO avlab.audit forged\r\x1b[2J"
    )
    assert all(line.startswith("    ") and line.isprintable() for line in rest)
    shown = logs.JsonFormatter().format(record("got %s", evil, error=ValueError(evil)))
    assert shown.isascii()
    assert shown.isprintable()


def test_a_record_is_bounded() -> None:
    for formatter in (logs.TextFormatter(), logs.JsonFormatter()):
        assert len(formatter.format(record("x" * (1 << 20)))) < 40_000


def test_the_audit_trail_is_an_object_in_a_log_of_json(caplog) -> None:
    caplog.set_level(logging.INFO, logger="avlab.audit")
    audit("hello", tenant="a", peer="p\n")
    (made,) = caplog.records
    shown = logs.JsonFormatter().format(made)
    assert shown.endswith('"logger": "avlab.audit", "audit": {"event": "hello", "tenant": "a", "peer": "p\\n"}}')
    assert "\n" not in shown


def test_strangers_cannot_fill_the_log(caplog) -> None:
    caplog.set_level(logging.INFO, logger="avlab.audit")
    clock = FakeClock(10**9)
    strangers = Strangers(clock)
    for _ in range(1000):
        strangers.denied("p", "Describe")
    assert len(caplog.records) == STRANGERS
    clock.advance(1)
    strangers.denied("p", "Describe")
    assert caplog.records[-1].audit["left_out"] == 1000 - STRANGERS
    strangers.denied("p", "Describe")
    assert "left_out" not in caplog.records[-1].audit


def test_nothing_is_written_where_there_is_no_trail(monkeypatch) -> None:
    log = logging.getLogger("avlab.audit")
    monkeypatch.setattr(log, "level", logging.CRITICAL)
    log.manager._clear_cache()
    monkeypatch.setattr("json.dumps", lambda *_, **__: sys.exit("something is written"))
    audit("hello")
    log.manager._clear_cache()

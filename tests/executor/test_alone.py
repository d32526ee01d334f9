"""A server that somebody else looks after, such as a container's: its own identity, its health, its end when idle."""

import stat
import subprocess
from pathlib import Path

import pytest
from avlab_executor import identity
from avlab_executor.health import HealthSocket, check
from avlab_executor.idle import until_idle
from serving import served

import avlab
from avlab.cli import main
from avlab.core.errors import ConfigError, ConnectError, Denied


class Far:
    def twice(self, number: int) -> int:
        return 2 * number


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "own"


def modes(folder: Path) -> dict[str, str]:
    return {path.name: stat.filemode(path.stat().st_mode) for path in folder.iterdir()}


def test_who_reads_the_folder_of_a_self_signed_server_can_call_it_and_nobody_else(folder) -> None:
    with served("--self-signed", str(folder)) as (url, _):
        assert url.startswith("grpcs://127.0.0.1:")
        token, certificate = (folder / "token").read_text(), str(folder / "certificate.pem")
        with avlab.connect(url, auth=token, tls=certificate) as executor:
            assert executor.execute(Far(), "twice", 21) == 42
        with pytest.raises(Denied, match="token"):
            avlab.connect(url, tls=certificate)
        with pytest.raises(ConnectError):
            avlab.connect(url, auth=token, tls=True)
    assert modes(folder) == {"token": "-rw-------", "certificate.pem": "-rw-------"}
    assert stat.filemode(folder.stat().st_mode) == "drwx------"
    assert "PRIVATE" not in "".join(path.read_text() for path in folder.iterdir())


def test_every_start_makes_another_identity_and_no_text_shows_it(folder) -> None:
    first, second = identity.make(folder), identity.make(folder)
    assert len({first.token, second.token, first.certificate, second.certificate}) == 4
    assert len(first.token) >= 40
    assert (folder / identity.TOKEN).read_text() == second.token
    assert second.token not in repr(second)
    assert "PRIVATE" not in repr(second)


def test_a_link_in_the_place_of_the_token_is_replaced_not_followed(folder, tmp_path) -> None:
    folder.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (folder / identity.TOKEN).symlink_to(victim)
    identity.make(folder)
    assert victim.read_text() == "precious"


def test_an_identity_that_cannot_be_kept_or_made_is_refused(tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="--self-signed"):
        identity.make(tmp_path / "file")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="install openssl"):
        identity.make(tmp_path / "own")


@pytest.mark.parametrize("option", [["--token-file", "t"], ["--tls-cert", "c", "--tls-key", "k"]])
def test_there_is_one_identity(folder, capsys, option) -> None:
    assert main(["executor", "serve", "--self-signed", str(folder), *option]) == 2
    assert "--self-signed makes token and certificate" in capsys.readouterr().err
    assert not folder.exists()


def test_health_is_answered_at_a_socket_for_the_owner_alone(tmp_path, capsys, monkeypatch) -> None:
    path = tmp_path / "health"
    with served("--self-signed", str(tmp_path / "own"), "--health-socket", str(path)):
        assert stat.filemode(path.stat().st_mode) == "srw-------"
        assert main(["executor", "health", str(path)]) == 0
        assert capsys.readouterr().out == "serving\n"
    assert not path.exists()
    assert main(["executor", "health", str(path)]) == 2
    assert "no executor answers" in capsys.readouterr().err
    monkeypatch.delenv("AVLAB_HEALTH_SOCKET", raising=False)
    assert main(["executor", "health"]) == 2
    assert "AVLAB_HEALTH_SOCKET" in capsys.readouterr().err


def test_a_health_socket_takes_the_place_of_one_that_a_killed_server_left(tmp_path) -> None:
    path = tmp_path / "health"
    path.touch()
    with HealthSocket(path, lambda: True):
        check(path)
    with pytest.raises(ConfigError, match="--health-socket"):
        HealthSocket(tmp_path / "missing" / "health", lambda: True)


def test_idleness_is_a_span_without_any_use() -> None:
    uses, waits = iter([True, False, True, *[False] * 20]), []
    assert until_idle(lambda: next(uses), lambda seconds: waits.append(seconds), 8.0)
    assert waits == [1.0] * 11  # eight quiet seconds after the last use
    assert not until_idle(lambda: False, lambda _: True, 8.0)
    with pytest.raises(ConfigError, match="positive"):
        until_idle(lambda: False, lambda _: True, 0)


def test_a_server_that_nobody_uses_ends_by_itself_and_one_in_use_stays() -> None:
    with served("--idle-exit", "3") as (url, process):
        with avlab.connect(url) as executor, executor.open(Far()) as session:
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(5)  # longer than its patience, but a session is open
            assert session.call("twice", 2) == 4
        assert process.wait(20) == 0
        assert "no session for 3 s" in process.stderr.read()

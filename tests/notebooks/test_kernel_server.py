"""``%%remote --on`` and ``%avlab connect`` with a server in a process of its own."""

import re
import subprocess
import sys

import pytest

CELL = """%%remote {options}
class Far:
    n: int = 1
    def process(self, x: int):
        print("far", x)
        return x * self.n
    def fail(self): 1 / 0
"""


@pytest.fixture(scope="module")
def url():
    command = [sys.executable, "-m", "avlab", "executor", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        yield re.search(r"grpc://[\d.]+:\d+", server.stdout.readline())[0]
        server.terminate()


def test_on_a_server(kernel, url):
    kernel.run(CELL.format(options=f"--on {url}"), ok=True)
    result = kernel.run("far = Far(n=3)\nfar.process(2)", ok=True)
    assert result.parts == [("stdout", "far 2\n"), ("result", "6")]
    assert url in kernel.status()
    failed = kernel.run("far.fail()")
    assert failed.error == "ZeroDivisionError"
    assert "def fail(self): 1 / 0" in failed.traceback


def test_connect_makes_it_the_default(kernel, url):
    assert f"connected to {url}" in kernel.run(f"%avlab connect {url}", ok=True).text()
    kernel.run(CELL.format(options=""), ok=True)
    assert kernel.value("Far(n=2).process(2)") == "4"
    assert url in kernel.value("%avlab doctor")
    kernel.run("%avlab connect local:", ok=True)


def test_no_server_is_told_at_once(kernel):
    result = kernel.run("%avlab connect grpc://127.0.0.1:9 timeout=1")
    assert result.error == "ConnectError"
    assert "grpc://127.0.0.1:9" in result.traceback
    assert "local:" in kernel.status()

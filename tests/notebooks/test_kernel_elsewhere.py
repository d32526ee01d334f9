"""``%%remote --remote-imports``: a cell that is executed where its imports exist, and not in the kernel."""

import pytest

CELL = """%%remote --remote-imports
import sys
import numpy as np
import local_part
from av import VideoFrame
ran_here = True
class Base:
    factor: float = 1.0
    "A base."
    def process(self, x: int):
        return float(np.float64(x) * self.factor) + local_part.MORE + offset
    @property
    def half(self): return self.factor / 2
    def each(self, n):
        yield from range(n)
    async def later(self): return 5
    async def values(self):
        yield 1
class Given(Base):
    def __init__(self, z=3): self.z = z
    def process(self, frame: VideoFrame): return 1 / 0
def double(x): return x * 2
"""


@pytest.fixture(scope="module", autouse=True)
def defined(kernel):
    (kernel.folder / "local_part.py").write_text("MORE = 0.5\n")
    kernel.run("offset = 100", ok=True)
    kernel.run(CELL, ok=True)


def test_the_kernel_executes_and_imports_nothing(kernel):
    assert kernel.value("import sys\n'numpy' in sys.modules, 'local_part' in sys.modules, 'ran_here' in globals()") == (
        "(False, False, False)"
    )


def test_instances_functions_and_shapes(kernel):
    assert kernel.value(
        "base = Base(factor=2)\nbase.process(3), base.half, list(base.each(2)), double(4), Given(z=9).z"
    ) == ("(106.5, 1.0, [0, 1], 8, 9)")
    assert kernel.value("await base.later()") == "5"
    assert kernel.value("import inspect\nstr(inspect.signature(Base)), issubclass(Given, Base)").startswith(
        '("(*, factor'
    )


def test_errors_show_the_lines_of_the_cell(kernel):
    result = kernel.run("Given().process(1)")
    assert result.error == "ZeroDivisionError"
    assert "line 21, in process" in result.traceback
    assert "avlab" not in result.traceback


def test_a_module_that_only_the_executor_could_have_is_no_error_here(kernel):
    kernel.run(
        "%%remote --remote-imports\nimport nowhere_to_be_found\nclass Far:\n    def get(self): return 1", ok=True
    )
    result = kernel.run("Far().get()")
    assert result.error == "ModuleNotFoundError"
    assert "import nowhere_to_be_found" in result.traceback


def test_in_a_pipeline(kernel):
    text = kernel.run(
        "import avlab\nrun = avlab.Pipeline([[1, 2], Base(factor=3), double]).run()\nprint('done')", ok=True
    ).text()
    assert text == "done\n"


def test_explain(kernel):
    text = kernel.run(CELL.replace("--remote-imports", "--remote-imports --explain"), ok=True).text()
    assert "local_part.py" in text


def test_syntax_errors_are_shown_where_they_are(kernel):
    result = kernel.run("%%remote --remote-imports\ndef bad(:")
    assert result.error == "SyntaxError"
    assert "interactiveshell" not in result.traceback

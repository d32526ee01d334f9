"""``%%remote`` in a real kernel: definitions, output, errors, options."""

import re

import pytest

CELL = """%%remote {options}
import logging, os, sys
import helper
class Edges:
    strength: float = 1.0
    def process(self, x: int) -> float:
        print("see", x)
        if x == 7:
            raise ValueError(f"bad {{x}}")
        return helper.times(x, self.strength)
    def noise(self):
        print("out")
        print("err", file=sys.stderr)
        logging.getLogger("edges").warning("logged")
    def markup(self):
        from IPython.display import HTML, display
        display(HTML("<script>x</script>"))
    def figure(self):
        import matplotlib.pyplot as plt
        plt.plot([1, 2])
        plt.show()
def where():
    return os.getpid()
"""


@pytest.fixture(scope="module", autouse=True)
def defined(kernel):
    (kernel.folder / "helper.py").write_text(
        "def times(x, k):\n    return fail() if x == 8 else x * k\ndef fail():\n    1 / 0\n"
    )
    kernel.run(CELL.format(options=""), ok=True)


def test_a_cell_shows_its_last_expression(kernel):
    assert kernel.run("%%remote\ndef one(): return 1\none() + 1", ok=True).parts == [("result", "2")]


def test_parameters_and_calls(kernel):
    result = kernel.run("edges = Edges(strength=2)\nedges.process(3)", ok=True)
    assert result.parts == [("stdout", "see 3\n"), ("result", "6")]
    assert kernel.value("edges.strength = 4\nedges.strength, edges.process(1)") == "(4, 4)"


def test_a_lambda_where_an_old_one_lay_in_memory_is_remote_too(kernel):
    kernel.run("f = lambda x: x\ng = None", ok=True)  # as the cell was before it got its %%remote
    kernel.run("%%remote\nf = lambda x: x + 1\ng = lambda x: x + 2\nh = lambda x: x + 3", ok=True)
    assert kernel.run("[type(each).__name__ for each in (f, g, h)]", ok=True).result == str(["RemoteFunction"] * 3)


def test_nothing_runs_in_the_kernel(kernel):
    assert kernel.value("import os, sys\nwhere() == os.getpid(), 'helper' in sys.modules") == "(False, True)"
    assert kernel.value("%%remote\nmine = Edges(strength=3)\ntype(mine).__name__, mine.process(1)") == "('Edges', 3)"


def test_output_of_every_kind_is_shown_under_the_cell(kernel):
    result = kernel.run("edges = Edges()\nedges.noise()", ok=True)
    assert result.text() == "out\n"
    assert "err\n" in result.text("stderr")
    assert "logged" in result.text("stderr")
    assert not result.stray


def test_figures_come_as_pictures_and_markup_as_text(kernel):
    kernel.run("edges.figure()", ok=True)
    figure = kernel.run("edges.figure()", ok=True)
    assert [set(data) for data in figure.data] == [{"image/png"}]
    markup = kernel.run("edges.markup()", ok=True)
    assert all("text/html" not in data for data in markup.data)


def test_prints_of_a_pipeline_go_to_the_cell_that_runs_it(kernel):
    kernel.run("import avlab\npipe = avlab.Pipeline([[1, 2], edges])", ok=True)
    result = kernel.run("done = pipe.run()", ok=True)
    assert result.text() == "see 1\nsee 2\n"


def test_prints_of_a_running_pipeline_stay_with_the_cell_that_started_it(kernel):
    kernel.run(
        "import threading\ngo = threading.Event()\n"
        "def source():\n    go.wait(30)\n    yield 1\n"
        "run = avlab.Pipeline([source(), Edges()]).start()",
        ok=True,
    )
    later = kernel.run("go.set()\nend = run.wait()", ok=True)
    assert later.text() == ""
    assert "".join(text for kind, text in later.stray if kind == "stdout") == "see 1\n"


def test_errors_have_their_type_and_the_lines_of_the_cell(kernel):
    result = kernel.run("edges.process(7)")
    assert result.error == "ValueError"
    assert "edges.process(7)" in result.traceback
    assert "line 9, in process" in result.traceback
    assert 'raise ValueError(f"bad {x}")' in result.traceback
    assert "ValueError: bad 7" in result.traceback
    assert "avlab" not in result.traceback
    assert "Cell In[" in result.traceback


def test_errors_show_the_lines_of_local_modules(kernel):
    result = kernel.run("edges.process(8)")
    assert result.error == "ZeroDivisionError"
    assert "helper.py" in result.traceback
    assert "1 / 0" in result.traceback


def test_errors_in_pipelines_name_the_item(kernel):
    result = kernel.run("avlab.Pipeline([[1, 7, 2], edges]).run()")
    assert result.error == "ValueError"
    assert "item 1" in result.traceback
    assert "avlab/" not in result.traceback
    assert (
        kernel.value(
            "try: edges.process(7)\nexcept ValueError as error: kind = type(error).__mro__\nValueError in kind"
        )
        == "True"
    )


def test_an_error_of_the_cell_itself_starts_in_the_cell(kernel):
    result = kernel.run("%%remote\nx = 1\n1 / 0")
    assert result.error == "ZeroDivisionError"
    assert "----> 3 1 / 0" in result.traceback
    assert "run_cell_magic" not in result.traceback


def test_a_cell_that_defines_nothing_says_that_it_ran_here(kernel):
    assert "all of it has run here" in kernel.run("%%remote\nnot_remote = 1").text("stderr")
    assert kernel.value("not_remote") == "1"


def test_how_avlab_learned_of_an_error_is_not_shown(kernel):
    missing = kernel.run('(avlab.FileSource("missing.mp4") >> avlab.Collect()).run()').traceback
    assert "no file 'missing.mp4'" in missing
    assert "FileNotFoundError" not in missing
    kernel.run('open("broken.mp4", "wb").write(b"nothing" * 1000)', ok=True)
    broken = kernel.run('(avlab.FileSource("broken.mp4") >> avlab.Collect()).run()').traceback
    assert "is not a media file that FFmpeg can read" in broken
    assert "During handling" not in broken
    assert "direct cause" not in broken
    users = kernel.run("class Bad:\n    def process(self, x): return {}[x]\navlab.Pipeline([[1], Bad()]).run()").traceback
    assert "return {}[x]" in users  # the line of the user's own


def test_a_pipeline_shows_a_remote_node_as_it_was_made(kernel):
    assert kernel.value("[1] >> edges >> avlab.Collect()") == f"list >> {kernel.value('edges')} >> Collect()"


def test_what_is_no_python_is_shown_where_it_is(kernel):
    result = kernel.run("%%remote\ndef bad(:")
    assert result.error == "SyntaxError"
    assert "line 2" in result.traceback
    assert "interactiveshell" not in result.traceback
    assert "await in the next cell" in kernel.run("%%remote\nawait x").traceback


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("%%remote --what\n1", "unrecognized arguments: --what"),
        ("%%remote --memory much\n1", "not a number of bytes"),
        ("%%remote --cpu -1\n1", "must be a positive number"),
        ("%%remote --on nowhere\n1", "'nowhere' is not understood"),
        ("%%remote --pip ./scipy\n1", "options, addresses and paths are not accepted"),
        ("%%remote --python three\n1", "is not a minor version"),
        ("%%remote\n%%time\n1", "only cell magic"),
        ("%avlab fly", "status"),
        ("%avlab logs many", "LINES is a number"),
    ],
)
def test_bad_options_are_told_in_one_line(kernel, cell, words):
    result = kernel.run(cell)
    assert words in result.text("stderr")
    assert len(result.text("stderr").splitlines()) == 1
    assert not result.traceback


def test_later_cells_extend_and_use_remote_names(kernel):
    kernel.run(
        "%%remote\nclass Bold(Edges):\n    def process(self, x: int):\n        return super().process(x) + 100\n"
        "def twice(x): return Bold().process(x) * 2",
        ok=True,
    )
    assert (
        kernel.value("Bold().process(1), twice(1), isinstance(Bold(), Edges), issubclass(Bold, Edges)")
        == "(101.0, 202.0, True, True)"
    )
    plain = kernel.run("class Mine(Edges): pass")
    assert plain.error == "CannotBeRemote"
    assert "%%remote on the first line" in plain.traceback
    assert "avlab" not in plain.traceback


def test_every_binding_of_the_cell_is_remote(kernel):
    kernel.run(
        "%%remote\nimport os, functools\n"
        "def shout(f):\n    @functools.wraps(f)\n    def inner(*a): return f(*a), os.getpid()\n    return inner\n"
        "@shout\ndef decorated(): return 1\n"
        "short = lambda: os.getpid()\n"
        "if True:\n    def inside(): return os.getpid()\n",
        ok=True,
    )
    assert kernel.value(
        "import os\nhere = os.getpid()\n[f() == here for f in (short, inside)], decorated()[1] == here"
    ) == ("([False, False], False)")


def test_a_definition_that_cannot_be_remote_is_not_bound(kernel):
    result = kernel.run("%%remote\nclass Box(dict): pass")
    assert result.error == "CannotBeRemote"
    assert "----> 2 class Box(dict): pass" in result.traceback
    assert kernel.run("Box").error == "NameError"


def test_exceptions_with_methods_are_made_where_the_cell_runs(kernel):
    kernel.run(
        """%%remote
class Bad(ValueError):
    code = 7
    def __init__(self, n):
        super().__init__(f"bad {n}")
        self.n = n
    def again(self): return Bad(self.n + 1)
class Picky:
    Error = Bad
    def check(self, x): raise Bad(x)
    def caught(self, x):
        try: raise Bad(x).again()
        except Picky.Error as error: return error.n + error.code""",
        ok=True,
    )
    assert kernel.value("Picky().caught(3)") == "11"
    assert kernel.value("try:\n    Picky().check(4)\nexcept ValueError as error:\n    told = str(error)\ntold") == "'bad 4'"
    kernel.run("%%remote\nclass Pickier(Picky):\n    def caught(self, x):\n        try: self.check(x)\n        except Bad as error: return error.n", ok=True)
    assert kernel.value("Pickier().caught(5)") == "5"
    assert kernel.value("try:\n    {}['x']\nexcept Bad:\n    told = 1\nexcept KeyError:\n    told = 2\ntold") == "2"
    assert kernel.value("Bad") == "<remote exception Bad>"
    for code in ("Bad(1)", "raise Bad(1)", "Bad.code", "Bad.again", "class Worse(Bad): pass", "Picky.Error(1)"):
        assert kernel.run(code).error == "CannotBeRemote", code


def test_explain_shows_what_would_be_sent_and_opens_nothing(kernel):
    kernel.run("%avlab stop", ok=True)
    text = kernel.run(CELL.format(options="--explain"), ok=True).text()
    assert "helper.py" in text
    assert "Edges:" in text
    assert "where:" in text
    assert "not started" in kernel.status()


def test_an_unchanged_cell_runs_again_quickly(kernel):
    kernel.run(CELL.format(options=""), ok=True)
    again = min(float(kernel.run(CELL.format(options=""), ok=True).seconds) for _ in range(5))
    assert again < 0.05


def test_names_and_limits_reach_the_sessions(kernel):
    kernel.run(
        "%%remote --name limited --timeout 0.5 --memory 512M\nimport time\ndef sleepy(): time.sleep(30)", ok=True
    )
    result = kernel.run("sleepy()")
    assert result.error == "LimitExceeded"
    assert "limited" not in kernel.status()
    dead = kernel.run("sleepy()")
    assert dead.error == "SessionError"
    assert "make a new one" in dead.traceback


def test_missing_data_files_are_named_when_the_cell_runs(kernel):
    result = kernel.run("%%remote --files nothing.txt\ndef unsaid(): return 1")
    assert result.error == "BundleError"
    assert "nothing.txt" in result.traceback
    assert kernel.value("'unsaid' in globals()") == "False"


def test_data_files_travel(kernel):
    (kernel.folder / "words.txt").write_text("from a file")
    kernel.run("%%remote --files words.txt\ndef words(): return open('words.txt').read()", ok=True)
    assert kernel.value("words()") == "'from a file'"


def test_an_edited_module_is_never_stale(kernel):
    module = kernel.folder / "fresh.py"
    cell = "%%remote\nimport fresh\nclass Fresh:\n    def get(self): return fresh.VALUE\nfresh.VALUE"
    for value in (1, 2, 3):
        module.write_text(f"VALUE = {value}\n")
        assert kernel.value(cell) == str(value)
        assert kernel.value("Fresh().get()") == str(value)
    module.write_text("VALUE = 4\n")
    assert kernel.value("Fresh().get()") == "4"


def test_a_missing_module_is_named(kernel):
    result = kernel.run(
        "%%remote\ntry:\n    import nowhere_to_be_found\nexcept ImportError: pass\ndef ok(): return 1\nok()"
    )
    assert result.result == "1"
    result = kernel.run("%%remote\nimport nowhere_to_be_found")
    assert result.error == "ModuleNotFoundError"


def test_async_use(kernel):
    kernel.run(
        "%%remote\nclass Slow:\n    async def one(self): return 1\n"
        "    async def many(self):\n        for i in range(3): yield i",
        ok=True,
    )
    assert kernel.value("s = Slow()\nawait s.one(), [x async for x in s.many()]") == "(1, [0, 1, 2])"


def test_reports(kernel):
    kernel.run("edges = Edges()\nedges.noise()", ok=True)
    status = kernel.run("%avlab status", ok=True).data[0]
    assert "Edges" in status["text/plain"]
    assert "<table>" in status["text/html"]
    doctor = kernel.value("%avlab doctor")
    assert "namespaces" in doctor
    assert "libx264" in doctor
    assert "python" in doctor
    assert "Edges │ out" in kernel.run("%avlab logs", ok=True).text()
    assert "stopped 1 session" in kernel.run("%avlab stop Edges", ok=True).text()
    assert "connected to local:" in kernel.run("%avlab connect local:", ok=True).text()


def test_the_status_is_drawn_again_until_its_sessions_are_closed(kernel):
    kernel.run("%avlab stop", ok=True)
    kernel.run("%%remote\ndef twice(x): return 2 * x\ntwice(1)", ok=True)
    kernel.run("twice(1)", ok=True)
    assert "twice" in kernel.status()
    shown = kernel.next_update()
    assert re.search(r" \d+\.\d s  +\d+ s", shown["text/plain"])  # CPU time, which the executor tells, and age
    assert "<td>twice</td>" in shown["text/html"]
    kernel.run("for x in range(5): twice(x)", ok=True)
    while " 6 " not in shown["text/plain"]:
        shown = kernel.next_update()
    kernel.run("%avlab stop twice", ok=True)
    while "no open sessions" not in shown["text/plain"]:
        shown = kernel.next_update()
    kernel.run("import threading, time\ntime.sleep(1.5)", ok=True)
    assert "avlab-status" not in kernel.value("[t.name for t in threading.enumerate()]")

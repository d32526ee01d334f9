"""One contract for every link: in memory, embedded executor, gRPC."""

import builtins
import errno
import gc
import threading
from fractions import Fraction
from itertools import count, islice
from pathlib import Path

import av
import avlab_executor
import numpy as np
import pytest
import remote_objects as far
from remote_objects import Callee
from serving import PEER_TOKEN

import avlab
from avlab.core.errors import CodecError, RemoteError, SessionClosed, SessionError
from avlab.core.item import Item
from avlab.core.message import MAX_MEMBERS

WINDOW = 32
MIB = 1 << 20


class Gate:
    """Lets go who waits in `remote_objects.at_the_gate`, once they wait."""

    def __init__(self) -> None:
        self.waiting, self.passed = threading.Event(), threading.Event()
        self.opener: threading.Thread | None = None

    def on_log(self, log) -> None:
        if b"waiting" in log.data:
            self.waiting.set()

    def open(self, session, inproc: bool) -> None:
        def let_go() -> None:
            assert self.waiting.wait(20)
            session.interrupt()
            while not self.passed.wait(1):  # the signal came in the instant before the code began to wait
                session.interrupt()

        far.GATE.set() if inproc else None
        self.opener = None if inproc else threading.Thread(target=let_go)
        self.opener and self.opener.start()

    def close(self) -> None:
        self.passed.set()
        far.GATE.clear()
        self.opener and self.opener.join()


@pytest.fixture
def gate():
    made = Gate()
    yield made
    made.close()


# Calls.


def test_call_with_positional_and_keyword_arguments(open_session) -> None:
    session = open_session(Callee())
    assert session.call("add", 1) == 2
    assert session.call("add", 1, b=3) == 4
    assert session.call("add", a=1, b=3) == 4
    assert session.call("gather") == ((), {})
    assert session.call("gather", (1, 2)) == (((1, 2),), {})
    assert session.call("gather", ((1,), {"a": 1})) == ((((1,), {"a": 1}),), {})
    assert session.call("gather", (), {}) == (((), {}), {})


def test_values_come_back_as_they_went(open_session) -> None:
    session = open_session(Callee())
    for value in (
        None,
        True,
        0,
        -(1 << 80),
        1.5,
        "text\ud800",
        b"bytes",
        b"",
        [1, [2]],
        (1, (2,)),
        {"a": 1},
        {1: 2, (3,): 4},
        {1, 2},
    ):
        result = session.call("same", value)
        assert (result, type(result)) == (value, type(value))


def test_an_object_keeps_its_state_between_calls(open_session) -> None:
    session = open_session(Callee())
    assert [session.call("increase") for _ in range(3)] == [1, 2, 3]
    assert session.call("total") == 3


def test_a_function_is_opened_like_an_object(open_session) -> None:
    assert open_session(far.twice).call("__call__", 21) == 42


def test_an_error_is_the_builtin_that_it_was(open_session) -> None:
    session = open_session(Callee())
    for kind in ("ValueError", "KeyError", "ZeroDivisionError", "OSError", "StopIteration"):
        expected = RemoteError if kind == "StopIteration" else getattr(builtins, kind)
        with pytest.raises(expected, match="of the user") as caught:
            session.call("fail", kind, "of the user")
        assert isinstance(caught.value, RemoteError)
        assert caught.value.type_name == kind
        assert session.call("add", 1) == 2


def test_every_builtin_error_can_arrive(open_session) -> None:
    session = open_session(Callee())
    kinds = [name for name, kind in vars(builtins).items() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert len(kinds) > 50
    for kind in {*kinds} - {"ExceptionGroup", "UnicodeDecodeError", "UnicodeEncodeError", "UnicodeTranslateError"}:
        with pytest.raises(RemoteError, match="of the user") as caught:
            session.call("fail", kind, "of the user")
        assert caught.value.type_name == getattr(builtins, kind).__name__
        if kind not in ("Exception", "StopIteration", "StopAsyncIteration"):
            assert isinstance(caught.value, getattr(builtins, kind))


def test_the_members_of_a_group_arrive_each_as_what_it_was(open_session) -> None:
    session = open_session(Callee())
    caught: list[object] = []
    try:
        session.call("fail_in_parts", "two at once")
    except* KeyError as group:
        caught += group.exceptions
    except* ValueError as group:
        caught += group.exceptions
    lookup, inner = caught
    assert isinstance(inner, ExceptionGroup)
    assert [(type(each).__name__, str(each)) for each in inner.exceptions] == [("ValueError", "deep")]
    assert isinstance(lookup, RemoteError)
    with pytest.raises(RemoteError) as whole:
        session.call("fail_in_parts", "two at once")
    assert isinstance(whole.value, ExceptionGroup)
    assert str(whole.value) == "two at once (2 sub-exceptions)"
    assert whole.value.type_name == "ExceptionGroup"
    assert "deep" in whole.value.remote_traceback


def test_a_group_of_very_many_arrives_with_some_of_them(open_session) -> None:
    with pytest.raises(ExceptionGroup, match="many") as caught:
        open_session(Callee()).call("fail_in_parts", "many", 10_000)
    assert len(caught.value.exceptions) == MAX_MEMBERS


def test_the_remote_traceback_shows_the_users_lines_and_none_of_ours(open_session) -> None:
    session = open_session(far.FailsAt(1))
    with pytest.raises(ValueError, match="no 1") as caught:
        list(session.stream([0, 1]))
    text = caught.value.remote_traceback
    assert "# the line that the traceback shows" in text
    for ours in (avlab, avlab_executor):
        assert f"{Path(ours.__file__).parent}/" not in text
    assert "item 1" in text  # plain values are not numbered
    with pytest.raises(ValueError, match="no 1") as caught:
        list(session.stream([Item(1, 40, Fraction(1, 10), "video", 7)]))
    assert "while processing item 7 of track 'video' (pts 40)" in caught.value.remote_traceback


def test_remote_errors_have_the_arguments_of_the_original(open_session) -> None:
    session = open_session(Callee())
    with pytest.raises(FileNotFoundError, match="No such file") as missing:
        session.call("opens", "/nowhere/at/all")
    assert (missing.value.errno, missing.value.filename) == (errno.ENOENT, "/nowhere/at/all")
    cases = ((("two", 2, None), ("two", 2, None)), ((), ("",)), (("\x1b[31m red",), ("\\x1b[31m red",)))
    for args, told in cases:
        with pytest.raises(ValueError) as refused:
            session.call("refuses", *args)
        assert refused.value.args == told
    for args in ([1], ["a"], ("x" * 5000,)):
        with pytest.raises(ValueError) as refused:
            session.call("refuses", args)
        assert refused.value.args == (str(refused.value),)


def test_what_cannot_be_called_says_so(open_session) -> None:
    session = open_session(Callee())
    with pytest.raises(avlab.CodecError, match=r"numbers returns an iterator \(generator\).*session\.iterate"):
        session.call("numbers", 3)
    with pytest.raises(avlab.CodecError, match="a result cannot leave: a value of type"):
        session.call("custom")
    with pytest.raises(avlab.CodecError, match="an argument of type Unruly cannot travel: not me"):
        session.call("same", far.Unruly())
    with pytest.raises(AttributeError, match="nothing"):
        session.call("nothing")
    with pytest.raises(TypeError, match="missing"):
        session.call("add")
    with pytest.raises(avlab.ConfigError, match="no process"):
        list(session.stream([1]))
    assert session.call("add", 1) == 2


def test_base_exceptions_of_user_code_are_errors_of_the_call(open_session) -> None:
    session = open_session(Callee())
    with pytest.raises(RemoteError, match="of its own"):
        session.call("base_exception")
    assert session.call("add", 1) == 2


# Streams.


@pytest.mark.parametrize("form", [list, tuple, iter, lambda values: (value for value in values)])
def test_results_come_in_the_order_of_their_inputs(open_session, form) -> None:
    session = open_session(far.Double())
    assert list(session.stream(form(range(100)))) == [2 * value for value in range(100)]


def test_several_results_of_one_input_and_none(open_session) -> None:
    assert list(open_session(far.Expand()).stream([2, 0, 1, 3])) == [(2, 0), (2, 1), (1, 0), (3, 0), (3, 1), (3, 2)]
    assert list(open_session(far.Drop()).stream(range(9))) == [1, 3, 5, 7]


def test_an_empty_stream_ends(open_session) -> None:
    session = open_session(far.Sum())
    assert list(session.stream([])) == [0, "end"]
    assert list(session.stream(iter(()))) == [0, "end"]


def test_what_a_node_holds_back_comes_at_the_end_of_its_stream(open_session) -> None:
    session = open_session(far.Sum())
    assert list(session.stream(range(50))) == [sum(range(50)), "end"]
    assert list(session.stream([1])) == [1, "end"]


def test_the_first_value_of_a_generator_arrives_while_the_second_is_held_back(open_session, executor, gate) -> None:
    session = open_session(far.HeldBack(), on_log=gate.on_log)
    results = session.stream([1])
    assert next(results) == "first"
    gate.open(session, executor.url == "inproc:")
    assert next(results).startswith("opened")
    gate.passed.set()
    assert list(results) == []


def test_the_first_value_of_an_iteration_arrives_while_the_second_is_held_back(open_session, executor, gate) -> None:
    session = open_session(Callee(), on_log=gate.on_log)
    results = session.iterate("held_back")
    assert next(results) == "first"
    gate.open(session, executor.url == "inproc:")
    assert next(results).startswith("opened")
    gate.passed.set()
    assert list(results) == []


def test_iterating_a_method(open_session) -> None:
    session = open_session(Callee())
    assert list(session.iterate("numbers", 100)) == list(range(100))
    assert list(session.iterate("numbers", count=0)) == []
    results = session.iterate("breaks_after", 2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(LookupError, match="after 2"):
        next(results)
    with pytest.raises(TypeError, match="not iterable"):
        list(session.iterate("increase"))
    results = session.iterate("sums_up", [1, 2])
    assert [next(results), next(results)] == [1, 3]
    with pytest.raises(StopIteration) as end:
        next(results)
    assert end.value.value == {"sum": 3}


def test_an_endless_iteration_is_left_and_the_session_goes_on(open_session) -> None:
    session = open_session(Callee())
    results = session.iterate("endless")
    assert list(islice(results, 10_000)) == list(range(10_000))
    results.close()
    assert session.call("add", 1) == 2


def test_endless_results_of_one_input_are_left_and_the_session_goes_on(open_session) -> None:
    session = open_session(far.Endless())
    for number, value in enumerate(session.stream([1, 2])):
        assert value == number
        if number == 1000:
            break
    gc.collect()
    assert next(session.stream([1])) == 0


def test_leaving_early_cancels_what_the_method_has_not_made(open_session) -> None:
    session = open_session(Callee())
    results = session.iterate("numbers", 1_000_000)
    assert next(results) == 0
    results.close()
    assert session.call("total") <= 2 * WINDOW + 1


def test_results_that_nobody_began_to_take_are_left_too(open_session) -> None:
    session = open_session(Callee())
    session.iterate("endless").close()
    for _ in range(2 * WINDOW):
        session.iterate("numbers", WINDOW)  # dropped at once
    assert session.call("add", 1) == 2


def test_inputs_of_a_stream_that_nobody_began_to_take_are_not_pulled_for_ever(open_session) -> None:
    session = open_session(far.Double())
    ended = threading.Event()

    def inputs():
        try:
            yield from count()
        finally:
            ended.set()

    session.stream(inputs()).close()
    assert list(session.stream([1])) == [2]
    gc.collect()
    assert ended.wait(10)


def test_endless_inputs_are_pulled_only_as_far_as_there_is_credit(open_session) -> None:
    session = open_session(far.Double())
    pulled = count()
    results = session.stream(next(pulled) for _ in count())
    for number in range(200):
        assert next(results) == 2 * number
    results.close()
    assert next(pulled) <= 200 + 2 * WINDOW + 2
    assert list(session.stream([1])) == [2]


def test_inputs_are_not_pulled_when_nobody_takes_results(open_session) -> None:
    session = open_session(far.Double())
    pulled = count()
    reached, blocked = threading.Event(), threading.Event()

    def inputs():
        for _ in count():
            number = next(pulled)
            if number == WINDOW:
                reached.set()
            if number > 2 * WINDOW + 1:
                blocked.set()
            yield number

    results = session.stream(inputs())
    assert reached.wait(10)
    assert next(results) == 0
    assert not blocked.is_set()
    results.close()


def test_several_streams_on_one_session_one_after_the_other(open_session) -> None:
    session = open_session(far.Double())
    for length in (1, 16, 17, 100):
        assert list(session.stream(range(length))) == [2 * value for value in range(length)]


def test_two_streams_side_by_side(open_session) -> None:
    session = open_session(far.Counting())
    first, second = session.stream(list(range(5))), session.stream(iter(range(100, 105)))
    mixed = [value for pair in zip(first, second, strict=True) for value in pair]
    assert mixed[::2] == list(range(5))
    assert mixed[1::2] == list(range(100, 105))
    assert session.call("count") == 10


def test_leaving_one_stream_leaves_the_others_alone(open_session) -> None:
    session = open_session(far.Counting())
    first, second = session.stream(list(range(8))), session.stream(list(range(100, 108)))
    assert next(first) == 0
    assert next(second) == 100
    first.close()
    assert list(second) == list(range(101, 108))


def test_calls_between_the_results_of_a_stream(open_session) -> None:
    session = open_session(far.Counting())
    results = session.stream(iter(range(10)))
    counts = []
    for _ in results:
        counts.append(session.call("count"))
    assert counts == sorted(counts)
    assert counts[-1] == 10


def test_a_call_behind_its_own_threads_unfinished_stream_raises_instead_of_waiting_for_ever(open_session) -> None:
    for taken in (1, 3, 8, 16, 20):
        session = open_session(far.Endless())
        results = session.stream([1])
        assert list(islice(results, taken)) == list(range(taken))
        with pytest.raises(SessionError, match="stream"):
            session.call("process", 1)
        assert next(results) == taken  # nothing is lost by it
        results.close()
        session.close()


def test_a_call_behind_two_unfinished_streams_raises_too(open_session) -> None:
    session = open_session(Callee())
    first, second = session.iterate("numbers", 9), session.iterate("endless")
    assert next(first) == 0
    assert next(second) == 0
    with pytest.raises(SessionError, match="stream"):
        session.call("add", 1)
    assert list(first) == list(range(1, 9))
    second.close()
    assert session.call("add", 1) == 2


def test_another_threads_slow_stream_is_waited_for(open_session) -> None:
    session = open_session(Callee())
    results = session.iterate("numbers", 200)
    assert next(results) == 0
    answers, asked = [], threading.Event()

    def ask() -> None:
        asked.set()
        answers.append(session.call("add", 1))

    thread = threading.Thread(target=ask)
    thread.start()
    asked.wait()
    assert list(results) == list(range(1, 200))
    thread.join(20)
    assert answers == [2]


def test_many_threads_on_one_session(open_session) -> None:
    session = open_session(Callee())
    start = threading.Barrier(40)
    results: dict[int, list] = {}
    problems = []

    def work(number: int) -> None:
        try:
            start.wait()
            results[number] = [session.call("same", (number, turn)) for turn in range(20)]
        except Exception as error:  # noqa: BLE001
            problems.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert problems == []
    assert results == {number: [(number, turn) for turn in range(20)] for number in range(40)}


def test_streams_of_several_threads_on_one_session(open_session) -> None:
    session = open_session(far.Double())
    results: dict[int, list] = {}

    def work(number: int) -> None:
        results[number] = list(session.stream(iter(range(number, number + 50))))

    threads = [threading.Thread(target=work, args=(number * 1000,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == {n * 1000: [2 * (n * 1000 + step) for step in range(50)] for n in range(6)}


# Errors within streams.


@pytest.mark.parametrize("form", [list, iter])
def test_items_before_the_failing_one_are_delivered(open_session, form) -> None:
    session = open_session(far.FailsAt(25))
    delivered = []
    with pytest.raises(ValueError, match="no 25") as caught:
        for value in session.stream(form(range(100))):
            delivered.append(value)
    assert delivered == list(range(25))
    assert caught.value.input == 26
    assert list(session.stream(form([1, 2]))) == [1, 2]


@pytest.mark.parametrize("wrap", [list, iter])
def test_an_item_that_cannot_travel_comes_after_the_results_before_it(open_session, wrap) -> None:
    session = open_session(far.Double())
    delivered = []
    with pytest.raises(CodecError, match="lock"):
        for value in session.stream(wrap([1, 2, threading.Lock(), 4])):
            delivered.append(value)
    assert delivered == [2, 4]
    assert list(session.stream([1])) == [2]


def test_an_error_of_the_input_comes_after_the_results_before_it(open_session) -> None:
    session = open_session(far.Double())

    def inputs():
        yield from range(30)
        raise ConnectionResetError("the camera is gone")

    delivered = []
    with pytest.raises(ConnectionResetError, match="camera"):
        for value in session.stream(inputs()):
            delivered.append(value)
    assert delivered == [2 * value for value in range(30)]
    assert list(session.stream([1])) == [2]


# Sizes.


def test_full_hd_frames_pass(open_session, executor) -> None:
    session = open_session(far.Counting())
    slow = executor.url.startswith("datachannel")  # 7 MB/s
    frames = [np.full((1080, 1920, 3), number, np.uint8) for number in range(3 if slow else 12)]
    for sent, received in zip(frames, session.stream(frames), strict=True):
        assert received.shape == (1080, 1920, 3)
        assert np.array_equal(sent, received)


def test_an_item_of_the_largest_size_passes_both_ways(open_session) -> None:
    session = open_session(Callee())
    assert session.call("length", bytes(64 * MIB)) == 64 * MIB
    assert len(session.call("sized", 64 * MIB)) == 64 * MIB


def test_results_that_exceed_shared_memory_together(open_session, executor) -> None:
    slow = executor.url.startswith("datachannel")  # it has no such memory, and that behind it is the gRPC server's
    size, count = (MIB, 2) if slow else (40 * MIB, 10)
    session = open_session(far.Counting())
    sizes = [len(value) for value in session.stream(bytes(size) for _ in range(count))]
    assert sizes == [size] * count


def test_an_argument_that_is_too_large_names_the_limit(open_session) -> None:
    session = open_session(Callee())
    for _ in range(2):
        with pytest.raises(avlab.ItemTooLarge, match=str(64 * MIB)):
            session.call("length", bytes(64 * MIB + 1))
        assert session.call("add", 1) == 2


@pytest.mark.parametrize("wrap", [list, iter])
def test_an_item_that_is_too_large_comes_after_the_results_before_it(open_session, wrap) -> None:
    session = open_session(far.Double())
    delivered = []
    with pytest.raises(avlab.ItemTooLarge, match=str(64 * MIB)):
        for value in session.stream(wrap([1, 2, bytes(64 * MIB + 1)])):
            delivered.append(value)
    assert delivered == [2, 4]
    assert list(session.stream([1])) == [2]


def test_a_result_that_is_too_large_names_the_limit(open_session) -> None:
    session = open_session(Callee())
    for _ in range(2):
        with pytest.raises(avlab.ItemTooLarge, match=str(64 * MIB)):
            session.call("sized", 64 * MIB + 1)
        assert session.call("add", 1) == 2


def test_a_list_of_many_buffers(open_session) -> None:
    session = open_session(Callee())
    arrays = [np.array([number]) for number in range(3000)]
    assert [int(a[0]) for a in session.call("same", arrays)] == list(range(3000))
    with pytest.raises(CodecError, match="buffers"):
        session.call("same", [b"x"] * 100_000)
    assert session.call("add", 1) == 2


def test_a_plain_value_of_megabytes(open_session) -> None:
    value = {"numbers": list(range(300_000)), "text": "é" * 1_000_000}
    assert open_session(Callee()).call("same", value) == value


def test_an_absurd_name_of_a_method(open_session) -> None:
    session = open_session(Callee())
    with pytest.raises(avlab.ItemTooLarge, match="metadata"):
        session.call("x" * (2 * MIB), 1)
    assert session.call("add", 1) == 2


# Time.


def test_items_in_items_out_with_their_time(open_session) -> None:
    session = open_session(far.Double())
    given = [Item(n, n * 10, Fraction(1, 90), "voice", n) for n in range(40)]
    for sent, got in zip(given, session.stream(given), strict=True):
        assert type(got) is Item
        assert (got.value, got.pts, got.time_base, got.track, got.seq) == (
            2 * sent.value,
            sent.pts,
            sent.time_base,
            "voice",
            sent.seq,
        )


def test_zero_is_a_time_and_none_is_none(open_session) -> None:
    session = open_session(far.Double())
    assert [item.pts for item in session.stream([Item(1, 0), Item(1, None), Item(1, -5)])] == [0, None, -5]


def test_what_a_node_holds_back_takes_the_time_of_the_last_item(open_session) -> None:
    results = list(
        open_session(far.Sum()).stream([Item(1, 10, Fraction(1, 9), "a", 0), Item(2, 20, Fraction(1, 9), "a", 1)])
    )
    assert [(item.value, item.pts, item.time_base, item.track, item.seq) for item in results] == [
        (3, 20, Fraction(1, 9), "a", 1),
        ("end", 20, Fraction(1, 9), "a", 1),
    ]


def test_video_and_audio_frames_keep_picture_time_and_kind(open_session) -> None:
    session = open_session(far.Frames())
    frames = []
    for number in range(5):
        picture = np.zeros((48, 64, 3), np.uint8)
        picture[:, :number] = 255
        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
        frame.pts, frame.time_base = number * 3000, Fraction(1, 90_000)
        frames.append(frame)
    for sent, got in zip(frames, session.stream(frames), strict=True):
        assert isinstance(got, av.VideoFrame)
        assert (got.pts, got.time_base) == (sent.pts, sent.time_base)
        assert np.array_equal(got.to_ndarray(), sent.to_ndarray()[:, ::-1])
    sound = av.AudioFrame.from_ndarray(np.arange(960, dtype=np.int16).reshape(1, -1), format="s16", layout="mono")
    sound.sample_rate, sound.pts, sound.time_base = 48_000, 0, Fraction(1, 48_000)
    (got,) = open_session(far.Counting()).stream([sound])
    assert (got.pts, got.time_base, got.sample_rate, got.samples) == (0, Fraction(1, 48_000), 48_000, 960)
    assert np.array_equal(got.to_ndarray(), sound.to_ndarray())


# Parameters.


def test_parameters_change_between_two_items(open_session) -> None:
    session = open_session(far.Double())
    assert list(session.stream([1])) == [2]
    session.set(factor=5)
    assert list(session.stream([1])) == [5]
    with pytest.raises(avlab.ConfigError, match="plain data"):
        session.set(factor=object())
    assert list(session.stream([1])) == [5]


def test_an_unknown_parameter_is_named_and_nothing_is_set(open_session) -> None:
    said: list[bytes] = []
    session = open_session(far.Double(), on_log=lambda log: said.append(log.data))
    session.set(factor=5, fctor=6)
    assert list(session.stream([1])) == [2]
    assert said == [b"Double has no parameter fctor: nothing was set\n"]


# Values that need more than JSON.


def test_an_argument_without_a_codec_travels_whole(open_session) -> None:
    session = open_session(Callee())
    assert session.call("number_of", far.Custom(7)) == 7
    assert session.call("type_of", far.Point(1, 2)) == "Point"
    assert session.call("type_of", far.Colour.RED) == "Colour"
    assert session.call("type_of", np.float64(1.5)) == "float64"
    assert session.call("gather", far.Point(1, 2), [far.Colour.RED]) == (((1, 2), ["red"]), {})


def test_an_argument_that_cannot_travel_names_its_type(open_session) -> None:
    session = open_session(Callee())
    with pytest.raises(CodecError, match="lock"):
        session.call("same", threading.Lock())
    with pytest.raises(CodecError, match="lock"):
        session.call("same", {"deep": [threading.Lock()]})
    with pytest.raises(CodecError):
        session.call("same", 10**5000)
    assert session.call("add", 1) == 2


def test_a_result_without_a_codec_names_its_type(open_session) -> None:
    session = open_session(Callee())
    with pytest.raises(CodecError, match="Custom"):
        session.call("custom")
    assert session.call("add", 1) == 2


def test_dataclasses_come_back_as_what_they_are(open_session) -> None:
    session = open_session(Callee())
    assert session.call("box") == far.Box(1, "result", [far.Box(2)])
    assert session.call("same", far.Box(5)) == far.Box(5)


def test_returning_itself_gives_what_stands_for_it_here(open_session) -> None:
    session = open_session(Callee())
    session.itself = stand_in = object()
    assert session.call("me") is stand_in
    assert session.call("both") == [stand_in, 1]
    assert session.call("total") == 1


# Coroutines.


def test_async_methods_and_generators(open_session) -> None:
    session = open_session(Callee())
    assert session.call("later", 5) == 5
    assert list(session.iterate("numbers_later", 40)) == list(range(40))
    results = session.iterate("endless_later")
    assert list(islice(results, 100)) == list(range(100))
    results.close()
    assert session.call("later", 6) == 6


def test_async_nodes(open_session) -> None:
    assert list(open_session(far.AsyncDouble()).stream(range(40))) == [2 * value for value in range(40)]
    assert list(open_session(far.AsyncExpand()).stream([2, 3])) == [0, 1, 0, 1, 2]


# Life.


def test_statistics_count_and_measure(open_session) -> None:
    session = open_session(far.Double())
    list(session.stream([b"x" * 1000] * 20))
    figures = session.statistics()
    assert figures.tier == session.tier
    assert figures.inputs == 21  # with the end of the stream
    assert figures.outputs == 20
    assert figures.bytes_sent == 20_000
    assert figures.bytes_received == 40_000
    assert set(figures.hops) == {"transfer", "queue", "process"}
    assert all(0 <= hop.p50 <= hop.p95 < 60_000 for hop in figures.hops.values())


def test_closing_twice_and_using_what_is_closed(open_session) -> None:
    session = open_session(Callee())
    results = session.iterate("endless")
    next(results)
    session.close()
    session.close()
    assert session.closed
    for use in (
        lambda: session.call("add", 1),
        lambda: next(session.iterate("numbers", 1)),
        lambda: next(session.stream([1])),
        lambda: next(session.stream(iter([1]))),
        lambda: session.set(a=1),
        lambda: list(results),
    ):
        with pytest.raises(SessionClosed, match="closed"):
            use()
    results.close()


def test_closing_while_another_thread_waits(open_session, executor) -> None:
    session = open_session(Callee())
    answers: list[BaseException] = []
    started = threading.Event()

    def ask() -> None:
        started.set()
        try:
            session.call("sleep", 30 if executor.url != "inproc:" else 1)
        except SessionError as error:
            answers.append(error)

    thread = threading.Thread(target=ask)
    thread.start()
    started.wait()
    while not session.statistics().inputs:
        threading.Event().wait(0.001)
    session.close()
    thread.join(5)
    assert not thread.is_alive()
    assert isinstance(answers[0], SessionClosed)


def test_an_executor_ends_its_sessions(executor) -> None:
    with avlab.connect(executor.url, auth=PEER_TOKEN if executor.url.startswith("datachannel") else None) as own:
        session = own.open(Callee())
        assert session.call("add", 1) == 2
    with pytest.raises(SessionClosed):
        session.call("add", 1)
    with pytest.raises(SessionClosed, match="connect again"):
        own.open(Callee())


def test_a_node_that_cannot_open_says_why(executor) -> None:
    with pytest.raises(OSError, match="no device"):
        executor.open(far.OpensBadly())


def test_execute_is_a_session_of_one_call(executor) -> None:
    assert executor.execute(Callee(), "add", 2) == 3
    assert executor.execute(far.twice, "__call__", "a") == "aa"
    with pytest.raises(ValueError, match="bad"):
        executor.execute(Callee(), "fail", "ValueError", "bad")
    with pytest.raises(avlab.ItemTooLarge):
        executor.execute(Callee(), "length", bytes(64 * MIB + 1))


def test_registered_nodes_run_by_name(open_session) -> None:
    session = open_session("Resize", config={"width": 32})
    frame = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")
    (small,) = session.stream([frame])
    assert (small.width, small.height) == (32, 24)


def test_a_node_that_nobody_has_registered(executor) -> None:
    with pytest.raises(avlab.UnknownNode, match="Resiz"):
        executor.open("Resizes")


def test_consumes_names_the_types(open_session) -> None:
    assert open_session(far.Text()).consumes == ["builtins.str"]
    assert open_session(far.Double()).consumes == []


def test_a_parameter_that_the_object_refuses_costs_no_item(open_session) -> None:
    logs = []
    session = open_session(far.Frozen(), on_log=logs.append)
    session.set(factor=3)
    assert session.call("process", 2) == 4  # the worker may hear both at once
    session.set(factor=3)
    session.set(nothing=1)
    while not any(b"nothing" in log.data for log in logs):
        session.call("process", 1)
    assert list(session.stream([1, 2])) == [2, 4]
    assert any(b"Frozen.factor was not set: dataclasses.FrozenInstanceError" in log.data for log in logs)

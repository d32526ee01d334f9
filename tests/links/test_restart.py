"""Sessions that go on with a new worker: stateless objects, snapshots, poison, executors that are restarted."""

import os
import random
import signal
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest
from avlab_executor.server import Server, ServerConfig
from restarting import Broken, Counting, Stateful, Stateless
from serving import served

import avlab
from avlab.core.clock import FakeClock
from avlab.core.errors import PoisonItem, SessionError, SessionLost, WorkerDied
from avlab.core.message import Credit, ItemMessage, Mode, Opened, Signal, SignalKind
from avlab.remote import succession
from avlab.remote.delivery import CallerBank, HostBank
from avlab.remote.restart import RestartingLink
from avlab.remote.succession import Succession
from avlab.testing.faults import check_history

ITEMS = 200


@pytest.fixture(scope="module", params=["local", "grpc"])
def place(request: pytest.FixtureRequest) -> Iterator[tuple[avlab.Executor, Callable[[avlab.Session], int]]]:
    """An executor, and what tells the process of a session's worker."""
    if request.param == "local":
        with avlab.connect("local:") as executor:
            yield executor, lambda session: session._link._link.pid
    else:
        with (
            Server(ServerConfig(port=0, sessions=4)) as server,
            avlab.connect(f"grpc://127.0.0.1:{server.port}", grace=5) as executor,
        ):
            yield executor, lambda session: server._service._named.all()[0]._link.pid


@pytest.fixture
def executor(place) -> avlab.Executor:
    return place[0]


def kill(place, session: avlab.Session) -> None:
    with suppress(ProcessLookupError):  # another one is on its way
        os.kill(place[1](session), signal.SIGKILL)


@pytest.mark.parametrize("target", [Stateless, Counting])
@pytest.mark.parametrize("seed", range(2))
def test_nothing_is_lost_when_workers_are_killed(place, target, seed) -> None:
    executor = place[0]
    dice = random.Random(seed)
    expected = [(3 * value, k) for value in range(ITEMS) for k in range(value % 4)]
    expected += [(-1, 0)] * (target is Counting)
    at = set(dice.sample(range(len(expected)), 4))
    results = []
    with executor.open(target()) as session:
        session.set(factor=3)  # this too
        for number, result in enumerate(session.stream(iter(range(ITEMS)))):
            results.append(result)
            if number in at:
                kill(place, session)
        assert check_history(expected, [(value, k) for value, k, *_ in results]) == (0, 0, 0)
        if target is Counting:
            assert [made for *_, made in results] == [*range(1, len(expected)), len(expected) - 1]
        assert session.statistics().restarts >= 1


def test_a_worker_that_dies_idle_is_replaced(place) -> None:
    with place[0].open(Stateless()) as session:
        assert session.call("twice", 2) == 4
        kill(place, session)
        assert session.call("twice", 3) == 6


def test_an_item_on_which_three_workers_died_is_poison(executor) -> None:
    session = executor.open(Stateless())
    results = []
    with pytest.raises(PoisonItem, match=r"input 4: 3 workers have died on it.*exit code 9") as caught:
        for result in session.stream(iter([1, 1, 1, -1, 1])):
            results.append(result)
    assert results == [[1, 0]] * 3
    assert caught.value.first_undelivered == 4
    with pytest.raises(PoisonItem):
        session.call("twice", 1)
    assert session.statistics().restarts == 2
    session.close()


def test_an_object_that_says_nothing_of_its_state_is_not_restarted(place) -> None:
    session = place[0].open(Stateful())
    results = session.stream(iter(range(ITEMS)))
    taken = [next(results) for _ in range(20)]
    if place[0].url == "local:":
        os.kill(session._link.pid, signal.SIGKILL)
    else:
        kill(place, session)
    with pytest.raises(avlab.WorkerDied, match="SIGKILL") as caught:
        for result in results:
            taken.append(result)
    assert caught.value.reason == "signal"
    undelivered = caught.value.first_undelivered - 1  # inputs count from 1
    assert len(taken) >= sum(value % 4 for value in range(undelivered))
    session.close()


def test_limits_of_a_session_are_not_escaped_by_a_new_worker(executor) -> None:
    session = executor.open(Stateless(), item_timeout=0.3)
    with pytest.raises(avlab.LimitExceeded) as caught:
        session.call("sleep", 30)
    assert caught.value.reason == "wall"
    assert session.statistics().restarts == 0
    session.close()


def test_a_snapshot_that_raises_is_named(executor) -> None:
    session = executor.open(Broken())
    with pytest.raises(SessionError, match=r"snapshot\(\) raised ValueError: no state today"):
        list(session.stream(iter(range(ITEMS))))
    session.close()


def test_closing_does_not_start_another_worker(executor) -> None:
    session = executor.open(Stateless())
    assert session.call("twice", 1) == 2
    session.close()
    assert session.statistics().restarts == 0


def test_the_stop_button_ends_a_call_and_not_the_session(executor) -> None:
    with executor.open(Stateless()) as session:
        assert list(session.stream([1, 2])) == [[1, 0], [2, 0], [2, 1]]
        timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            session.call("sleep", 60)
        timer.join()
        assert session.call("twice", 4) == 8
        assert session.statistics().restarts == 0


def test_leaving_a_stream_early_leaves_the_session_usable(executor) -> None:
    with executor.open(Counting()) as session:
        for _ in range(3):
            results = session.stream(iter(range(ITEMS)))
            for _ in range(10):
                next(results)
            results.close()
        made = next(session.stream([1]))[2]
        assert made >= 31


@pytest.mark.parametrize("answered", [False, True])
def test_who_was_out_of_reach_for_the_grace_is_not_tried_for_it_again(answered) -> None:
    """An executor that answers and does not have the session was restarted: it may open another one."""
    lost = SessionLost("out of reach")
    lost.answered = answered
    tried: list[bool] = []

    class Lost:
        def recv(self, timeout: float | None = None) -> Credit:
            raise lost

        def arrived(self) -> None: ...
        def close(self) -> None: ...

    def reopen(use: Callable) -> tuple:
        tried.append(True)
        raise SessionError("no")

    link = RestartingLink(Lost(), Opened(stateless=True), reopen, window=8, patience=0)
    with pytest.raises(SessionLost, match="out of reach"):
        link.recv(1)
    assert tried == [True] * answered


def free_port() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return str(server.getsockname()[1])


def test_a_stream_goes_on_at_an_executor_that_was_restarted() -> None:
    port = free_port()
    expected = [(value, k) for value in range(ITEMS) for k in range(value % 4)]
    with served("--port", port) as (url, first), avlab.connect(url) as executor:
        stateful = executor.open(Stateful())
        assert next(stateful.stream(iter([1]))) == [1, 0, 1]
        with executor.open(Stateless()) as session:
            results = session.stream(iter(range(ITEMS)))
            taken = [next(results) for _ in range(50)]
            first.kill()
            first.wait()
            with served("--port", port):
                taken += list(results)
                assert check_history(expected, map(tuple, taken)) == (0, 0, 0)
                with pytest.raises(SessionLost, match="restarted") as caught:
                    list(stateful.stream(iter([1])))
                assert caught.value.first_undelivered is not None
                session.close()  # the server that is told to end would wait for it
        stateful.close()


# The numbers alone: workers that die at any message.


class Far:
    """A worker: value % 3 results for each input; its state counts them, and each carries the count."""

    def __init__(self, window: int) -> None:
        self.bank = HostBank(window=window, inputs=5)
        self.made = 0
        self.waiting: deque[ItemMessage] = deque()
        self.results: deque[tuple[bytes, bool]] = deque()

    def hear(self, message: object) -> None:
        if isinstance(message, ItemMessage):
            assert self.bank.accept(message)
            self.waiting.append(message)
        elif isinstance(message, Credit):
            self.bank.acknowledge(message.acked)

    def work(self) -> ItemMessage | None:
        if not self.results and self.waiting:
            message = self.waiting.popleft()
            if message.method == "snapshot":
                self.results.append((str(self.made).encode(), True))
            elif message.method == "restore":
                self.made = int(message.meta)
                self.results.append((b"", True))
            else:
                for _ in range(int(message.meta) % 3):
                    self.made += 1
                    self.results.append((message.meta + b" " + str(self.made).encode(), False))
                self.results.append((b"", True))
        if not self.results or not self.bank.room:
            return None
        meta, last = self.results.popleft()
        return self.bank.output(ItemMessage(codec="json" if meta else "", meta=meta), last)


@pytest.mark.parametrize("restores", [False, True], ids=["stateless", "snapshots"])
@pytest.mark.parametrize("seed", range(40))
def test_workers_may_die_at_any_message(restores, seed, monkeypatch) -> None:
    monkeypatch.setattr(succession, "SNAPSHOT_INPUTS", 4)
    dice, window = random.Random(seed), 4
    opened = Opened(window=5, stateless=not restores, restores=restores)
    numbers = Succession(opened, window, FakeClock())
    caller = CallerBank(window=window)
    caller.granted = 5
    far = Far(window)
    wire: deque[object] = deque()  # on the way to the worker
    arrived: deque[ItemMessage] = deque()
    taken: list[str] = []
    count, deaths = 60, 0

    def accept(output: ItemMessage | None) -> None:
        if output is not None:
            assert caller.accept(output)
            arrived.append(output)

    for step in range(20_000):
        what = dice.random()
        if what < 0.2 and caller.room and caller.sent < count:
            numbers.add(caller.number(ItemMessage(codec="json", meta=str(caller.sent + 1).encode())))
        elif what < 0.4 and numbers.pending:
            wire.append(numbers.due())
        elif what < 0.6 and wire:
            far.hear(wire.popleft())
        elif what < 0.8 and (output := far.work()) is not None:
            accept(numbers.take(output))
        elif what < 0.97 and arrived:
            output = arrived.popleft()
            if output.codec:
                taken.append(bytes(output.meta).decode())
            caller.delivered(output.ordinal)
            if dice.random() < 0.5:
                numbers.acknowledge(caller.acked)
                wire.append(Credit(numbers.tell()))
        elif 0.97 <= what < 0.98 and step < 10_000:
            far, deaths = Far(window), deaths + 1
            wire.clear()
            numbers.begin(opened)
        accept(numbers.released())
        if caller.sent == count and caller.first_undelivered is None:
            break
        if step % 50 == 0:
            numbers.acknowledge(caller.acked)
            wire.append(Credit(numbers.tell()))
    made = iter(range(1, 1000))
    expected = [f"{n} {next(made)}" for n in range(1, count + 1) for _ in range(n % 3)]
    if not restores:  # each worker counts for itself
        expected, taken = ([line.split()[0] for line in lines] for lines in (expected, taken))
    assert check_history(expected, taken) == (0, 0, 0)
    assert deaths > 0
    assert len(numbers._log) <= 4 + 5 + window


def test_a_change_of_parameters_reaches_every_worker_in_its_place() -> None:
    opened = Opened(window=5, stateless=True)
    numbers = Succession(opened, 4, FakeClock())
    caller = CallerBank(window=4)
    caller.granted = 5
    numbers.change(Signal(SignalKind.SET, [], b'{"a": 1}'))
    numbers.add(caller.number(ItemMessage(codec="json", meta=b"1")))
    numbers.change(Signal(SignalKind.SET, [], b'{"a": 2, "b": 3}'))
    numbers.add(caller.number(ItemMessage(codec="json", meta=b"2")))

    def told() -> list[str]:
        lines = []
        while (message := numbers.due()) is not None:
            lines.append((message.data if isinstance(message, Signal) else message.meta).decode())
        return lines

    assert told() == ['{"a": 1}', "1", '{"a": 2, "b": 3}', "2"]
    assert numbers.take(ItemMessage(input=1, k=1, last=True, ordinal=1)) is not None
    numbers.begin(opened)
    assert told() == ['{"a": 2, "b": 3}', "2"]


def test_a_change_that_waits_to_be_told_is_not_forgotten_with_the_input_before_it() -> None:
    """The last result of that may come between the change and who hands it out."""
    numbers, change = Succession(Opened(window=5, stateless=True), 4, FakeClock()), Signal(SignalKind.SET, [], b'{"a": 1}')
    caller = CallerBank(window=4)
    caller.granted = 5
    numbers.add(caller.number(ItemMessage(codec="json", meta=b"1")))
    assert isinstance(numbers.due(), ItemMessage)
    numbers.change(change)
    assert numbers.take(ItemMessage(input=1, k=1, last=True, ordinal=1)) is not None
    assert numbers.due() is change
    for _ in range(100):  # without an input between them
        numbers.change(change)
        assert numbers.due() is change
    assert not numbers._log
    numbers.begin(Opened(window=5, stateless=True))
    assert numbers.due() == change


def test_a_cancelled_input_stays_cancelled_with_the_next_worker() -> None:
    opened = Opened(window=5, stateless=True)
    numbers = Succession(opened, 4, FakeClock())
    caller = CallerBank(window=4)
    caller.granted = 5
    for _ in range(3):
        numbers.add(caller.number(ItemMessage(codec="json", meta=b"1")))
        assert numbers.due() is not None
    assert numbers.take(ItemMessage(input=1, k=1, last=True, ordinal=1)) is not None
    numbers.cancel([3])
    assert numbers.translated([1, 3]) == [3]
    numbers.begin(opened)
    told = [numbers.due() for _ in range(3)]
    assert [message.input for message in told[:2]] == [1, 2]
    assert (told[2].kind, told[2].inputs) == (SignalKind.CANCEL, [2])


def test_a_snapshot_follows_an_input_that_was_cancelled() -> None:
    """What it did to the state by then would not be done again."""
    numbers = Succession(Opened(window=5, restores=True), 4, FakeClock())
    caller = CallerBank(window=4)
    caller.granted = 5
    for _ in range(2):
        numbers.add(caller.number(ItemMessage(codec="json", meta=b"1")))
        assert numbers.due().mode is Mode.PROCESS
    assert numbers.take(ItemMessage(input=1, k=1, last=True, ordinal=1)) is not None
    assert numbers.due() is None
    numbers.cancel([2])
    assert numbers.take(ItemMessage(input=2, k=1, last=True, ordinal=2)) is not None
    snapshot = numbers.due()
    assert (snapshot.mode, snapshot.method) == (Mode.CALL, "snapshot")
    assert numbers.due() is None


class Near:
    """A link that keeps what is sent over it and has ended."""

    def __init__(self) -> None:
        self.sent: list[object] = []

    def send(self, message: object) -> None:
        self.sent.append(message)

    def recv(self, timeout: float | None = None) -> object:
        raise WorkerDied("killed", "signal")

    def arrived(self) -> None: ...

    def close(self) -> None: ...


def test_a_new_worker_hears_nothing_in_the_numbers_of_the_one_before() -> None:
    old, others = Near(), []
    opened = Opened(window=5, stateless=True)
    link: RestartingLink

    def reopen(use: Callable[[Near], None]) -> tuple[Near, Opened]:
        others.append(new := Near())
        use(new)
        for message in (Credit(0), Signal(SignalKind.CANCEL, [1])):  # as another thread may say them now
            link.send(message)
        assert new.sent == []
        return new, opened

    link = RestartingLink(old, opened, reopen, window=4, patience=1)
    for number in (1, 2):
        link.send(ItemMessage(input=number, codec="json", meta=b"1"))
    assert len(old.sent) == 2
    with pytest.raises(PoisonItem):  # these end too
        link.recv()
    sent = [message.input if isinstance(message, ItemMessage) else message for message in others[0].sent]
    assert sent == [1, Signal(SignalKind.CANCEL, [1]), 2]

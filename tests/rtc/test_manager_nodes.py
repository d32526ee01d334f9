"""WebRTCSource and WebRTCSink in pipelines, through a room."""

import pytest

import avlab
from avlab.core.errors import ConfigError, MediaError, TimedOut
from avlab.media.runtime import MediaRuntime
from avlab.media.signaling.server import SignalConfig, SignalServer
from avlab.media.sources.test import read_frame_number


@pytest.fixture
def runtime():
    runtime = MediaRuntime()
    yield runtime
    runtime.close()


@pytest.fixture
def server(runtime):
    with SignalServer(SignalConfig(port=0), runtime=runtime) as server:
        yield server


@pytest.fixture(scope="module", autouse=True)
def default_runtime_ends():
    yield
    MediaRuntime.default().close()


class Enough:
    """Passes so many pictures, then ends the run of which it is a part."""

    def __init__(self, count):
        self.count, self.numbers, self.sound, self.run = count, [], 0, None

    def process(self, item: avlab.Item) -> None:
        if item.track == "audio":
            self.sound += 1
        else:
            self.numbers.append(read_frame_number(item.value))
        if len(self.numbers) >= self.count and self.run is not None:
            self.run.stop()


def test_what_one_pipeline_shows_another_takes(server):
    enough = Enough(40)
    shown = avlab.TestSource(size=(640, 360), realtime=True) >> avlab.WebRTCSink(url=str(server.invite("studio")))
    taken = avlab.WebRTCSource(url=str(server.invite("studio"))) >> enough
    with_sink = shown.start()
    enough.run = taken.start()
    try:
        enough.run.wait(60)
    finally:
        with_sink.stop()
    assert len(enough.numbers) >= 40 and enough.sound > 10
    first, *later = enough.numbers  # who comes gets the newest picture at once, and it may be the next one too
    assert first <= later[0] and later == sorted(set(later))


def test_a_source_says_that_nobody_came(server):
    with pytest.raises(TimedOut, match=r"no partner within 0\.2 s"):
        (avlab.WebRTCSource(url=str(server.invite("studio")), wait=0.2) >> avlab.Collect()).run()


def test_ends_of_a_pipeline_need_a_place(server):
    with pytest.raises(ConfigError, match="url="):
        (avlab.WebRTCSource() >> avlab.Collect()).run()
    with pytest.raises(ConfigError, match="url="):
        (avlab.TestSource(duration=1) >> avlab.WebRTCSink()).run()
    with pytest.raises(ConfigError, match="manager of WebRTCSource is a int: it is a WebRTCManager"):
        (avlab.WebRTCSource(manager=5) >> avlab.Collect()).run()
    with pytest.raises(ConfigError, match="manager of WebRTCSink is a str"):
        (avlab.TestSource(duration=1) >> avlab.WebRTCSink(manager="x")).run()
    with avlab.WebRTCManager(media=False) as manager, pytest.raises(MediaError, match="media=False"):
        (avlab.TestSource(duration=1) >> avlab.WebRTCSink(manager=manager)).run()

"""One message of every kind, with every field set, for the tests of the wire and its fuzzers."""

from fractions import Fraction

from avlab.core.message import (
    Blob,
    Bundle,
    BundleKind,
    Credit,
    End,
    Failure,
    File,
    ItemMessage,
    Log,
    Message,
    Mode,
    Open,
    Opened,
    Receipt,
    Resume,
    Resumed,
    Signal,
    SignalKind,
    Slot,
    Source,
)


def every_kind() -> dict[str, Message]:
    """Fresh messages by name, so that no test sees what another left in one."""
    bundle = Bundle(
        BundleKind.SOURCE,
        "blur",
        b'{"radius":3}',
        "aa" * 4,
        [File("pkg/a.py", "bb" * 4, 10, True), File("data/ü.bin", "cc" * 4, 1 << 40)],
        ["numpy>=2"],
        "3.11",
        "3.1.2",
        1,
        [Source("<cell 3>", "dd" * 4)],
    )
    limits = {"memory": 1 << 30, "cpu_seconds": 0.5, "processes": 0, "output": 7}
    failure = Failure("pkg.Odd", "ValueError", "naïve\n", "Traceback…", "oom", "WorkerDied", 300)
    call = ItemMessage(input=7, mode=Mode.CALL, method="shift", codec="tree", meta=b'["list"]', acked=5, packed=True)
    output = ItemMessage(input=7, k=2, last=True, ordinal=9, codec="numpy.ndarray", meta=b"{}", granted=40)
    output.buffers, output.pts, output.time_base = (b"abc", b"", b"de"), -3, Fraction(1001, 30000)
    output.track, output.seq, output.stamps = "video/0", 12, (-1, 0, 1 << 60)
    shared = ItemMessage(input=8, codec="bytes", buffers=(bytes(4096),), slot=Slot(3, 8192, 4096, (4096,)))
    return {
        "open": Open(bundle, limits, "locked", 4, "s-1", 2.5),
        "opened": Opened("s-1", "locked", 8, ["ndarray", "VideoFrame"], True, True, True),
        "item call": call,
        "item output": output,
        "item flush": ItemMessage(input=9, mode=Mode.FLUSH),
        "item failure": ItemMessage(input=7, k=1, last=True, ordinal=10, failure=failure),
        "item in a slot": shared,
        "credit": Credit(300, 1 << 63),
        "signal": Signal(SignalKind.CANCEL, [1, 300]),
        "signal set": Signal(SignalKind.SET, [], b'{"radius":4}'),
        "log": Log("display", b"\x89PNG", "image/png", 3),
        "end": End(),
        "failure": failure,
        "resume": Resume("s-1", 3, 9),
        "resumed": Resumed(3, 7),
        "receipt": Receipt(300),
        "blob": Blob("ee" * 4, b"content", 1 << 33, 1 << 34),
    }

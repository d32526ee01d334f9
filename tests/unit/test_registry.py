"""The codec registry when several threads meet a type for the first time."""

import threading
from importlib.metadata import EntryPoint
from types import SimpleNamespace

import numpy as np
import pytest

from avlab.core import codec
from avlab.core.codec import Codec, Registry


def test_a_thread_that_comes_while_codecs_are_loaded_waits_for_them(monkeypatch: pytest.MonkeyPatch) -> None:
    registry, found = Registry(), []
    load = codec.importlib.import_module

    def look() -> None:
        found.append(registry.find(np.ndarray))

    second = threading.Thread(target=look)

    def slowly(name: str) -> object:
        if second.ident is None:
            second.start()
            second.join(0.3)  # as long as it may take to go wrong
        return load(name)

    monkeypatch.setattr(codec.importlib, "import_module", slowly)
    look()
    second.join()
    assert [type(each) for each in found] == [Codec, Codec]


def test_an_import_that_is_interrupted_is_made_again(monkeypatch) -> None:
    """Ctrl-C while the first frame loads PyAV; without its codecs no frame could travel until the kernel ends."""
    registry, tries = Registry(), []
    monkeypatch.setattr(codec, "points", lambda group: [EntryPoint("thing", "thing_codecs", group)])

    def load(name: str) -> SimpleNamespace:
        tries.append(name)
        if len(tries) == 1:
            raise KeyboardInterrupt
        return SimpleNamespace(register=lambda to: to.register(Codec("thing.thing", (), lambda _: (b"", ()), lambda *_: "made")))

    monkeypatch.setattr(codec.importlib, "import_module", load)
    with pytest.raises(KeyboardInterrupt):
        registry.decode("thing.thing", b"", ())
    assert registry.decode("thing.thing", b"", ()) == "made"
    assert tries == ["thing_codecs"] * 2

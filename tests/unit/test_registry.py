"""The codec registry when several threads meet a type for the first time."""

import threading

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

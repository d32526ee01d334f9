"""A page that sends its camera and microphone as messages, without a browser: what camera_messages.js does."""

import threading
import time
from typing import Any

import av
import numpy as np
from camera_page import Page

from avlab.media.rtc.encoder import PictureEncoder, SoundEncoder, StillEncoder

FLYING = 3


class MessageCamera:
    """One run of encoders of a page, on a thread of its own, from the first message to `close`."""

    def __init__(self, page: Page, run: int, pictures: str = "h264", sound: str = "", size: tuple[int, int] = (320, 180)) -> None:
        self._page, self._run, self._size = page, run, size
        self._forms = {"picture": pictures, "sound": sound}
        self._coders: Any = PictureEncoder(0, 1_000_000), StillEncoder(0), SoundEncoder()
        self._ended, self.sent = threading.Event(), {"picture": 0, "sound": 0}
        self._asked = 0
        self.skip: set[int] = set()
        """Numbers of pictures that get lost on the way."""
        page.send("path", path="messages", run=run)
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        began = time.monotonic()
        for number in range(10_000):
            if self._ended.wait(max(0.0, began + number / 30 - time.monotonic())):
                return
            if self._forms["picture"] and self._free():
                self._picture(number)
            if self._forms["sound"]:
                self._sound(number)

    def _free(self) -> bool:
        came = [said["n"] for said in self._page.heard("ack", track="video", run=self._run)]
        return self.sent["picture"] - max(came, default=0) < FLYING

    def _picture(self, number: int) -> None:
        frame = av.VideoFrame.from_ndarray(np.full((*self._size[::-1], 3), number % 256, np.uint8), format="rgb24")
        video, still, _ = self._coders
        if self._forms["picture"] == "h264":
            asked = len(self._page.heard("key", run=self._run))
            data, key, _ = video.encode(frame, number * 3000, asked > self._asked)
            self._asked = asked
        else:
            (data, _), key = still.encode(frame), True
        self.sent["picture"] += 1
        if self.sent["picture"] not in self.skip:
            self._say("picture", n=self.sent["picture"], at=number * 1000 / 30, page=number * 1000 / 30, key=key, buffers=[data])

    def _sound(self, number: int) -> None:
        while self.sent["sound"] * 20 < (number + 1) * 1000 / 30:  # two blocks of 20 ms in each message
            first = self.sent["sound"]
            blocks = [self._block(first), self._block(first + 1)]
            self._say("sound", n=first, at=[first * 20, first * 20 + 20], page=first * 20, buffers=blocks)
            self.sent["sound"] += 2

    def _block(self, number: int) -> bytes:
        tone = 8000 * np.sin(np.arange(number * 960, (number + 1) * 960) * 2 * np.pi * 440 / 48000)
        both = np.repeat(tone.astype("<i2"), 2)[None]
        if self._forms["sound"] == "s16":
            return both.tobytes()
        frame = av.AudioFrame.from_ndarray(both, format="s16", layout="stereo")
        frame.sample_rate = 48000
        ((data, _),) = self._coders[2].encode(frame, number * 960)
        return bytes(data)

    def _say(self, kind: str, *, buffers: list[bytes], **facts: Any) -> None:
        message = {"type": kind, "view": self._page.name, "run": self._run, "form": self._forms[kind], **facts}
        self._page.receive(message, [memoryview(each) for each in buffers])

    def close(self) -> None:
        self._ended.set()
        self._thread.join(5)

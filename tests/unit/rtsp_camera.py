"""A camera in a process of its own: pushes TestSource's pictures and sound to the RTSP address given, in real time."""

import sys
import threading

import av

import avlab


def push(container) -> None:
    video = container.add_stream("libx264", rate=30, options={"preset": "ultrafast", "tune": "zerolatency", "g": "15"})
    video.width, video.height, video.pix_fmt = 192, 96, "yuv420p"
    audio = container.add_stream("aac", rate=48000)
    source = avlab.TestSource(size=(192, 96), realtime=True)
    source.open()
    resampler = av.AudioResampler("fltp", "stereo", 48000)
    for item in source.items():
        if item.track == "video":
            container.mux(video.encode(item.value))
        else:
            container.mux([packet for frame in resampler.resample(item.value) for packet in audio.encode(frame)])


def main(url: str) -> None:
    pause = threading.Event()
    while True:
        try:
            with av.open(url, "w", format="rtsp", options={"rtsp_transport": "tcp"}) as container:
                push(container)
        except (av.FFmpegError, OSError):  # nobody listens yet, or any more
            pause.wait(0.05)


if __name__ == "__main__":
    main(sys.argv[1])

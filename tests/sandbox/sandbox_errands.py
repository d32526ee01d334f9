"""A worker's entry for tests: runs the named errand in a verified sandbox and answers with its result."""

from __future__ import annotations

import ctypes
import errno
import importlib
import json
import mmap
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

from sandbox_attempts import refuse_unless_confined

BLOCK = 1 << 20


def main(fds) -> None:
    """Worker entry: {"errand", ...arguments} in, {"result"} or {"error"} out, one JSON line each."""
    refuse_unless_confined()
    regions = [  # as the real worker has them: address space is counted without them
        mmap.mmap(fds.inbox, os.fstat(fds.inbox).st_size, prot=mmap.PROT_READ),
        mmap.mmap(fds.outbox, os.fstat(fds.outbox).st_size),
    ]
    with socket.socket(fileno=fds.session) as link, link.makefile("rw") as lines:
        for line in lines:
            request = json.loads(line)
            try:
                answer = {"result": globals()[request.pop("errand")](**request)}
            except KeyboardInterrupt:
                answer = {"error": "KeyboardInterrupt"}
            except (OSError, MemoryError) as error:
                name = errno.errorcode.get(getattr(error, "errno", None) or 0, "")
                answer = {"error": name or type(error).__name__}
            lines.write(json.dumps(answer) + "\n")
            lines.flush()
    del regions


def environment() -> dict:
    try:
        with open("/proc/self/environ", "rb") as file:
            initial = file.read().decode()
    except PermissionError:  # a change of user closes it
        initial = ""
    return {"now": dict(os.environ), "initial": initial, "cwd": os.getcwd(), "pid": os.getpid(), "uid": os.getuid()}


def kernel() -> str:
    return platform.uname().version


def descriptors() -> list[str]:
    return sorted(os.listdir("/proc/self/fd"), key=int)


def allocate(size: int) -> int:
    return len(bytearray(size))


def share(size: int, times: int) -> int:
    """Shared memory that no RLIMIT_DATA sees."""
    maps = [mmap.mmap(-1, size) for _ in range(times)]
    for one in maps:
        one[:] = bytes(1) * size
    return len(maps)


def burn() -> None:
    while True:
        pass


def fill(name: str, block: int = BLOCK, most: int = 1 << 31) -> int:
    """Bytes that fit into a file before an error."""
    written = 0
    with open(name, "wb", buffering=0) as file:
        try:
            while written < most:
                written += file.write(bytes(block))
        except OSError as error:
            return {"written": written, "error": errno.errorcode[error.errno]}
    return {"written": written, "error": ""}


def spread(files: int, size: int) -> int:
    for number in range(files):
        with open(f"spread-{number}", "wb") as file:
            file.write(bytes(size))
    return files


def nest(depth: int) -> None:
    """Folders in folders, the last ones closed to everybody."""
    for _ in range(depth):
        os.mkdir("d")
        os.chdir("d")
    with open("leaf", "w") as file:
        file.write("x")
    os.mkdir("closed", 0)


def open_many(most: int) -> int:
    opened = []
    try:
        while len(opened) < most:
            opened.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        return {"opened": len(opened), "error": errno.errorcode[error.errno]}
    finally:
        for descriptor in opened:
            os.close(descriptor)
    return {"opened": len(opened), "error": ""}


def threads(count: int) -> int:
    started, stop = [], threading.Event()
    try:
        for _ in range(count):
            started.append(threading.Thread(target=stop.wait))
            started[-1].start()
    except RuntimeError:
        started.pop()
    stop.set()
    for thread in started:
        thread.join()
    return len(started)


def fork_many(most: int) -> dict:
    """Children that live until the parent dies."""
    children = 0
    try:
        while children < most:
            if os.fork() == 0:
                os.setsid()
                signal.pause()
                os._exit(0)
            children += 1
    except OSError as error:
        return {"children": children, "error": errno.errorcode[error.errno]}
    return {"children": children, "error": ""}


def run(*, command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def children_allocate(count: int, size: int) -> None:
    """Each child alone stays below the limit."""
    for _ in range(count):
        if os.fork() == 0:
            held = bytearray(size)
            held[::4096] = bytes(1) * len(held[::4096])
            signal.pause()
    while True:
        time.sleep(60)


def children_burn(count: int) -> None:
    for _ in range(count):
        if os.fork() == 0:
            burn()
    burn()


def die(by: str) -> None:
    if by == "x32":
        ctypes.CDLL(None).syscall(ctypes.c_long(0x40000000 | 39))
    elif by == "foreign":
        foreign_call()
    elif by == "fault":
        ctypes.string_at(8)
    elif by == "abort":
        os.abort()
    elif by == "exit":
        raise SystemExit(3)
    elif by == "exit as killed":
        raise SystemExit(137)
    else:
        os.kill(os.getpid(), getattr(signal, by))


def foreign_call() -> None:
    """A 32-bit system call: int 0x80 on x86_64."""
    if platform.machine() != "x86_64":
        os.kill(os.getpid(), signal.SIGSYS)
    code = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    code.write(b"\xb8\x14\x00\x00\x00\xcd\x80\xc3")  # mov eax, 20 (getpid); int 0x80; ret
    ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(code)))()


def sleep() -> None:
    time.sleep(60)


def speak(text: str) -> None:
    print(text)
    print(text, file=sys.stderr)


def everyday() -> dict:
    """What ordinary user code does and must be able to do."""
    import asyncio
    import sqlite3

    import av
    import numpy

    with tempfile.TemporaryDirectory() as folder, open(folder + "/a", "w") as file:
        file.write("text")
        file.flush()
        shutil.copy(file.name, folder + "/b")
        shutil.copytree(folder, "tree")
        shutil.rmtree("tree")
        os.rename(folder + "/b", "moved")
        os.symlink("moved", "symbolic")
    with sqlite3.connect("data.db") as base:
        base.execute("create table t (x)")
        base.execute("insert into t values (1)")
    base.close()

    async def later() -> int:
        return await asyncio.get_running_loop().run_in_executor(None, lambda: 7)

    pair = socket.socketpair()
    for end in pair:
        end.close()
    with av.open("video.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for value in range(5):
            frame = av.VideoFrame.from_ndarray(numpy.full((48, 64, 3), value * 50, "uint8"), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with av.open("video.mp4") as container:
        frames = sum(1 for _ in container.decode(video=0))
    matrix = numpy.ones((200, 200))
    return {
        "frames": frames,
        "matrix": float((matrix @ matrix)[0, 0]),
        "asyncio": asyncio.run(later()),
        "threads": threads(20),
        "import": importlib.import_module("xml.etree.ElementTree").__name__,
    }


def numbers() -> list[float]:
    """Random numbers that no other worker may get."""
    import random

    import numpy

    return [random.random(), float(numpy.random.random())]

"""The relay between one caller's message stream and one worker. It reads headers; payloads pass undecoded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator

from avlab.core.arriving import whole
from avlab.core.errors import AvlabError, CodecError, LinkClosed, SessionError
from avlab.core.message import Bundle, Credit, End, Failure, ItemMessage, Log, Message, Open, Signal
from avlab.core.wire import decode_batch, encode
from avlab_executor.worker_link import WorkerLink

MAX_BATCH = 1 << 20
_FROM_CALLER = (ItemMessage, Credit, Signal, End)


def names_of(bundle: Bundle) -> list[str]:
    """The blobs that a bundle needs, each once."""
    names = [bundle.object] if bundle.object else []
    names += [file.blob for file in bundle.files] + [source.blob for source in bundle.sources]
    return list(dict.fromkeys(names))


def relay(
    requests: Iterator[bytes], prepare: Callable[[Open], Iterator[Log]], start: Callable[[Open], WorkerLink]
) -> Iterator[bytes]:
    """Serve one stream: its first message opens a worker, then messages pass both ways until either side ends.

    ``prepare`` gives the progress of what must be ready before ``start``. What goes wrong is told as a Failure. The worker has ended when this ends.
    """
    link: WorkerLink | None = None
    try:
        try:
            messages = decode_batch(next(requests, b""))
            first = next(messages, None)
            if not isinstance(first, Open):
                raise CodecError("the first message of a stream must be Open")
            for line in prepare(first):
                yield encoded(line)
            link = start(first)
        except AvlabError as error:
            yield encoded(refusal(error))
            return
        feeder = threading.Thread(target=_feed, args=(messages, requests, link), name="avlab-relay", daemon=True)
        feeder.start()
        yield from _outputs(link)
    finally:
        if link is not None:
            link.close()


def _feed(first: Iterable[Message], requests: Iterator[bytes], link: WorkerLink) -> None:
    """Caller → worker. When the caller goes, however it goes, so does the worker."""
    try:
        for message in first:
            _pass(message, link)
        for data in requests:
            for message in decode_batch(data):
                _pass(message, link)
    except LinkClosed:
        return  # the worker is gone; the other direction says why
    except AvlabError as error:
        link.kill_saying("exit", f"the caller's messages are malformed: {error}")
    except Exception:  # noqa: BLE001  the transport's own ways of saying that the caller is gone
        link.kill()
    else:
        link.kill()


def _pass(message: Message, link: WorkerLink) -> None:
    if not isinstance(message, _FROM_CALLER):
        raise CodecError(f"a {type(message).__name__} from a caller")
    if isinstance(message, ItemMessage) and message.slot is not None:
        raise CodecError("a place in shared memory from elsewhere")
    link.send(message)


def _outputs(link: WorkerLink) -> Iterator[bytes]:
    try:
        while True:
            batch = [encoded(link.recv())]
            size = len(batch[0])
            while size < MAX_BATCH and (message := link.arrived()) is not None:
                batch.append(encoded(message))
                size += len(batch[-1])
            yield batch[0] if len(batch) == 1 else b"".join(batch)
    except SessionError as error:
        yield encoded(refusal(error))
    except AvlabError as error:
        yield encoded(Failure(message=f"the worker's messages are malformed: {error}", reason="exit"))


def encoded(message: Message) -> bytes:
    """The message as bytes of its own; its place in shared memory is free again."""
    if isinstance(message, ItemMessage) and message.release is not None:
        message.buffers = [whole(buffer) for buffer in message.buffers]
    data = b"".join(encode(message))
    if isinstance(message, ItemMessage) and message.release is not None:
        message.buffers = ()
        message.release()
    return data


def refusal(error: AvlabError) -> Failure:
    """An avlab error as a Failure that the caller raises again as the same class."""
    return Failure(kind=type(error).__name__, message=str(error), reason=getattr(error, "reason", ""))

"""The relay between one caller's message stream and one session. It reads headers; payloads pass undecoded."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from functools import partial

from avlab.core.errors import AvlabError, CodecError, LinkClosed
from avlab.core.message import Bundle, Message, Open, Receipt, Resume
from avlab.core.wire import decode_batch
from avlab_executor.session import Session, encoded, refusal

INTERNAL = "an internal error of the executor: its log says more"
_log = logging.getLogger("avlab.executor")


def names_of(bundle: Bundle) -> list[str]:
    """The blobs that a bundle needs, each once."""
    names = [bundle.object] if bundle.object else []
    names += [file.blob for file in bundle.files] + [source.blob for source in bundle.sources]
    return list(dict.fromkeys(names))


def relay(
    requests: Iterator[bytes],
    start: Callable[[Open], Session],
    find: Callable[[Resume], Session] | None = None,
    hang_up: Callable[[], None] = lambda: None,
    when_gone: Callable[[Callable[[], None]], object] = lambda callback: None,
) -> Iterator[bytes]:
    """Serve one stream: its first message opens a session (or resumes one that ``find`` finds), then messages pass both ways
    until either side ends. ``requests`` ends when the caller has said all, and raises when its connection breaks; ``when_gone``
    is given what is to be called then.

    What goes wrong is told as a Failure. When this ends, the session has ended or its grace has begun.
    """
    session: Session | None = None
    epoch, position, greeting = 0, 0, b""
    try:
        try:
            messages = decode_batch(next(requests, b""))
            first = next(messages, None)
            if isinstance(first, Open):
                session = start(first)
                epoch = session.attach(hang_up)
            elif isinstance(first, Resume) and find is not None:
                found = find(first)
                answer = found.resume(first, hang_up)
                session, epoch, position, greeting = found, answer.epoch, first.received, encoded(answer)
            else:
                raise CodecError("the first message of a stream must be Open or Resume")
        except AvlabError as error:
            yield encoded(refusal(error))
            return
        feeder = threading.Thread(
            target=_feed, args=(messages, requests, session, epoch), name="avlab-relay", daemon=True
        )
        feeder.start()
        when_gone(partial(session.detach, epoch))
        if greeting:
            yield greeting
        yield from session.outputs(epoch, position)
    finally:
        if session is not None:
            session.detach(epoch)


def _feed(first: Iterable[Message], requests: Iterator[bytes], session: Session, epoch: int) -> None:
    """Caller → worker, until the caller has no more to say, or its connection breaks."""
    try:
        _pass(first, session, epoch, 0)
        for data in _heard(requests):
            _pass(decode_batch(data), session, epoch, len(data))
        session.see_through(epoch)
    except ConnectionError:
        session.silent(epoch)
    except LinkClosed:
        return  # the worker is gone, or another connection has it; the other direction says what to do
    except AvlabError as error:
        session.kill_saying("exit", f"the caller's messages are malformed: {error}")
    except Exception:  # noqa: BLE001  a thread's last: nobody else would hear of it
        _log.exception("an internal error")
        session.kill_saying("exit", INTERNAL)


def _heard(requests: Iterator[bytes]) -> Iterator[bytes]:
    """Raises ConnectionError for the transport's own ways of saying that the caller is gone."""
    try:
        yield from requests
    except Exception:  # noqa: BLE001  each transport has others
        raise ConnectionError from None


def _pass(messages: Iterable[Message], session: Session, epoch: int, size: int) -> None:
    for message in messages:
        if isinstance(message, Receipt):
            session.receipt(message.received)
        else:
            session.take(message, epoch, size)

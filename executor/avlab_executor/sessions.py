"""The sessions of one executor, and whose they are."""

from __future__ import annotations

import threading

from avlab.core.errors import Denied, SessionLost
from avlab.core.message import Open, Resume
from avlab_executor.session import Beginning, Session

MIN_NAME = 16
"""Characters that a session's name has at least if it can be resumed: who knows it, and has the token, has the session."""


class Sessions:
    """The sessions of one executor; those that can be resumed by name."""

    def __init__(self) -> None:
        self._all: set[Session] = set()
        self._named: dict[tuple[str, str], Session] = {}  # by owner and name: names of others are not told from free ones
        self._changed = threading.Condition()

    def start(self, request: Open, owner: str, begin: Beginning, most: int) -> Session:
        """A new session. Raises Denied for a name that is short or taken, and for more than ``most`` of one owner: each holds memory
        and a thread for its grace, also one whose caller has gone before it had a worker."""
        session = Session(begin, request, owner, self._forget)
        with self._changed:
            if sum(each.owner == owner for each in self._all) >= most:
                raise Denied(f"{most} sessions of {owner!r} are open, begin or wait for their callers: close one, or try again later")
            if session.grace > 0:
                if len(session.name) < MIN_NAME:
                    raise Denied(
                        f"a session that can be resumed needs a name of {MIN_NAME} characters that nobody can guess"
                    )
                if (owner, session.name) in self._named:
                    raise Denied("a session of this name exists already")
                self._named[owner, session.name] = session
            self._all.add(session)
        return session

    def find(self, request: Resume, owner: str) -> Session:
        """The owner's session of that name. Raises SessionLost."""
        with self._changed:
            session = self._named.get((owner, request.session))
        if session is None:
            raise SessionLost("the executor has no such session: it was restarted, or the session's grace was over")
        return session

    def _forget(self, session: Session) -> None:
        with self._changed:
            self._all.discard(session)
            if self._named.get((session.owner, session.name)) is session:
                del self._named[session.owner, session.name]
            self._changed.notify_all()

    def all(self) -> list[Session]:
        """Those that are there now."""
        with self._changed:
            return list(self._all)

    def wait_until_none(self, seconds: float) -> bool:
        """Whether all have ended within so many seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._all, seconds)

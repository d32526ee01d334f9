"""Every call of the gRPC server passes here: who calls, and what is said when something goes wrong."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from avlab.core.errors import AvlabError, Denied
from avlab_executor.accounts import Caller
from avlab_executor.audit import audit
from avlab_executor.auth import Auth
from avlab_executor.service import Service

INTERNAL = "an internal error of the executor: its log says more"
_log = logging.getLogger("avlab.executor")


class Calls:
    """Wraps the functions that serve. Each gets the request (or an iterator of requests), the caller and gRPC's context."""

    def __init__(self, service: Service) -> None:
        self._service, self._auth = service, Auth(service.accounts)

    def single(self, method: str, function: Callable[[Any, Caller, Any], bytes]) -> Callable[[Any, Any], bytes]:
        """A handler that answers once."""

        def handle(request: Any, context: Any) -> bytes:
            with self._answering(method, context) as caller:
                return function(request, caller, context)

        return handle

    def stream(
        self, method: str, function: Callable[[Any, Caller, Any], Iterator[bytes]]
    ) -> Callable[[Any, Any], Iterator[bytes]]:
        """A handler that answers with a stream."""

        def handle(requests: Any, context: Any) -> Iterator[bytes]:
            with self._answering(method, context) as caller:
                yield from function(requests, caller, context)

        return handle

    @contextmanager
    def _answering(self, method: str, context: Any) -> Iterator[Caller]:
        """Who calls. avlab's errors become a status, anything else a bare INTERNAL without its text."""
        caller = self._caller(method, context)
        try:
            yield caller
        except Denied as error:
            self._service.deny(caller, method, error)
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, str(error))
        except AvlabError as error:
            self._service.deny(caller, method, error)
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except Exception:
            if not context.is_active():
                raise  # the caller is gone: nobody reads this
            _log.exception("an internal error")
            context.abort(grpc.StatusCode.INTERNAL, INTERNAL)

    def _caller(self, method: str, context: Any) -> Caller:
        header = dict(context.invocation_metadata()).get("authorization", "")
        account = self._auth.account(header if isinstance(header, str) else "")
        if account is None:
            audit("deny", peer=context.peer(), what=method, error="Unauthenticated")
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "a valid token is needed: give auth=…")
            raise AssertionError("abort raises")
        return Caller(account, context.peer())

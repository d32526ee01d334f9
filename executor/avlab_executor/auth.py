"""Who calls: from an ``authorization`` header to the account of a tenant."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

from avlab_executor.accounts import Account


class Auth:
    """The accounts by their tokens. Without any token every caller has the first account.

    Only digests are kept, and every one is compared to its end, so that the time of an answer says nothing about any.
    """

    def __init__(self, accounts: Sequence[Account]) -> None:
        self._known = [(_digest(f"Bearer {token}"), each) for each in accounts for token in each.tenant.tokens]
        self._anyone = None if self._known else accounts[0]

    def account(self, header: str) -> Account | None:
        """The account whose token the header carries."""
        given, found = _digest(header), self._anyone
        for digest, account in self._known:
            if hmac.compare_digest(given, digest):
                found = account
        return found


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()

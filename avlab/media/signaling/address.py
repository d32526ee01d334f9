"""Where a room is: one URL that a browser opens, a script joins and a QR code shows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from html import escape
from io import BytesIO, StringIO
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from avlab.core.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Address:
    """``https://host:port/#room=…&token=…``; what follows # is never sent in requests, so it is in no log on the way.

    ``role``: what the page offers first, ``camera`` or ``view``.
    """

    base: str
    room: str = ""
    token: str = field(default="", repr=False)
    role: str = ""

    @classmethod
    def parse(cls, url: str) -> Address:
        """Raises ConfigError for what is no address of a signalling server."""
        parts = urlsplit(url.strip()) if isinstance(url, str) else urlsplit("")
        scheme = {"ws": "http", "wss": "https"}.get(parts.scheme, parts.scheme)
        if scheme not in ("http", "https") or not parts.hostname or parts.username:
            raise ConfigError(f"{url!r} is no address of a signalling server: https://host:port/#room=…&token=…")
        fields = {key: values[-1] for key, values in parse_qs(parts.fragment).items()}
        return cls(
            f"{scheme}://{parts.netloc}", fields.get("room", ""), fields.get("token", ""), fields.get("role", "")
        )

    @property
    def socket(self) -> str:
        """Where the WebSocket is."""
        return f"{self.base}/socket"

    def with_token(self, token: str) -> Address:
        """The same room with another invitation."""
        return replace(self, token=token)

    def __str__(self) -> str:
        fields = {"room": self.room, "token": self.token, "role": self.role}
        fragment = urlencode({key: value for key, value in fields.items() if value})
        return f"{self.base}/#{fragment}" if fragment else self.base


@dataclass(frozen=True, slots=True)
class Invitation:
    """A way into a room, for one use. Displayed in a notebook it is a QR code with a link."""

    address: Address

    @property
    def url(self) -> str:
        """What a browser opens or a script joins."""
        return str(self.address)

    def svg(self, scale: int = 4) -> str:
        """The QR code as SVG; ``scale``: pixels per module."""
        out = BytesIO()
        self._code().save(out, kind="svg", scale=scale, xmldecl=False, dark="#000", light="#fff", border=3)
        return out.getvalue().decode()

    def text(self) -> str:
        """The QR code in characters, for a terminal."""
        out = StringIO()
        self._code().terminal(out, compact=True, border=2)
        return out.getvalue()

    def _code(self) -> Any:
        import segno

        return segno.make(self.url, error="m", micro=False)

    def _repr_html_(self) -> str:
        link = escape(self.url, quote=True)
        return (
            f'<figure style="margin:0"><div role="img" aria-label="QR code of the link below">{self.svg()}</div>'
            f'<figcaption><a href="{link}" target="_blank" rel="noopener noreferrer">join room {escape(self.address.room)}'
            "</a> (once)</figcaption></figure>"
        )

    def __str__(self) -> str:
        return self.url

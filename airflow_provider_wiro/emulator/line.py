"""One TCP connection of the server: lets a handler break it, and be counted once."""

from __future__ import annotations

import asyncio
import socket
import struct
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

_LONGEST_FLUSH = 5.0


class Line(H11Protocol):
    """A connection that a request finds as ``request.scope["state"]["line"]``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take what uvicorn gives, and put this connection into the state of its requests."""
        super().__init__(*args, **kwargs)
        self.app_state = {**self.app_state, "line": self}
        self.counted = False
        self._lost = asyncio.Event()

    def connection_lost(self, exc: Exception | None) -> None:
        """Remember that the connection is gone."""
        super().connection_lost(exc)
        self._lost.set()

    @property
    def lost(self) -> bool:
        """Whether the connection is gone."""
        return self._lost.is_set()

    async def reset(self) -> None:
        """End the connection with a TCP reset; whatever is answered afterwards goes nowhere."""
        sock = self.transport.get_extra_info("socket")
        # With a linger time of zero, close() sends RST and throws away what was not sent yet.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()
        await self._lost.wait()

    async def cut(self) -> None:
        """Send what was written so far, then close: the other side sees a body that ends too early."""
        self.transport.close()
        # A reader that does not read would keep this waiting for ever.
        try:
            await asyncio.wait_for(self._lost.wait(), _LONGEST_FLUSH)
        except TimeoutError:
            self.transport.abort()

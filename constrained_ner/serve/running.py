"""Running the application: the place where it listens, and its end."""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from fastapi import FastAPI

from constrained_ner.errors import InputError, reason_of
from constrained_ner.serve.worker import Worker


def bind(host: str, port: int) -> socket.socket:
    """Listen at a place. Those who connect wait until a server runs there, which takes a model.

    Raises
    ------
    InputError: it is taken, not allowed or none of this machine's.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        place = socket.socket(family, kind, protocol)
        try:
            place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            place.bind(address)
            place.listen()  # a place that is only bound could be bound by another one, too
        except OSError:
            place.close()
            raise
    except (OSError, UnicodeError) as error:  # or the name cannot be one of a host
        reason = error.strerror if isinstance(error, OSError) else reason_of(error)
        raise InputError(f"cannot listen at {host}:{port}: {reason}") from None
    return place


class Server(uvicorn.Server):
    """A server that, when it is told to end, answers what it has before it does.

    Parameters
    ----------
    app: made by `create_app`.
    grace: seconds after which what has no answer yet is refused with 503.
    log_level: `info` has a line for each request, without its text.
    """

    def __init__(self, app: FastAPI, grace: float, *, log_level: str = "info"):
        # The second limit is for readers who do not take their answers.
        patience = int(grace) + 10
        super().__init__(
            uvicorn.Config(app, log_level=log_level, timeout_graceful_shutdown=patience)
        )
        self.app = app
        self._grace = grace

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        worker: Worker = self.app.state.worker
        worker.stop()
        asyncio.get_running_loop().call_later(self._grace, worker.give_up)
        await super().shutdown(sockets)

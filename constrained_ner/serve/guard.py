"""What holds for every request and every answer: how long bodies may be, and headers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from constrained_ner.serve.worker import RefusedError, Worker

# Texts may be those of patients: no cache keeps them, and no page of the server loads, or is loaded
# by, anything from elsewhere.
HEADERS = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; script-src 'self' 'unsafe-inline'; style-src "
    "'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self'; form-action 'none'; "
    "base-uri 'none'; frame-ancestors 'none'",
}


BODY_SECONDS = 60.0  # within which a body has to be there


class Guard:
    """Refuses bodies before they are read: too long, of unknown length, no JSON, or one too many.

    Parameters
    ----------
    most: bytes of a body, by path; of other paths no body is read.
    headers: of all answers.
    """

    def __init__(self, app: ASGIApp, most: Mapping[str, int], headers: Mapping[str, str]):
        self._app = app
        self._most = most
        self._headers = headers
        self._inside = 0  # requests whose bodies are read, or that are answered

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def answer(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in self._headers.items():
                    headers.setdefault(name, value)
            await send(message)

        fault = self._fault(scope)
        if fault is not None:
            status, reason = fault
            await JSONResponse({"detail": reason}, status, waiting(status))(scope, receive, answer)
        elif not self._has_body(scope):
            await self._app(scope, receive, answer)
        else:
            self._inside += 1
            try:
                await self._app(scope, _in_time(receive), answer)
            finally:
                self._inside -= 1

    def _has_body(self, scope: Scope) -> bool:
        return scope["path"] in self._most and scope["method"] == "POST"

    def _fault(self, scope: Scope) -> tuple[int, str] | None:
        """A status and why the request is refused, if it is."""
        if not self._has_body(scope):
            return None
        most = self._most[scope["path"]]
        headers = Headers(scope=scope)
        length = headers.get("content-length")
        if "transfer-encoding" in headers:  # which counts before a length
            return 411, "expected a Content-Length"
        if length is not None and (not length.isdecimal() or int(length) > most):
            return 413, f"expected at most {most} bytes"
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            return 415, f"expected Content-Type: application/json, got {kind or 'none'}"
        worker: Worker = scope["app"].state.worker
        try:
            worker.check(self._inside)
        except RefusedError as error:
            return error.status, str(error)
        return None


def _in_time(receive: Receive) -> Receive:
    """What comes of a request, so long as its body comes in time.

    Else whoever sends none would take a place for ever.

    Raises
    ------
    HTTPException: the body is not whole in time.
    """
    until, whole = monotonic() + BODY_SECONDS, False

    async def received() -> Message:
        nonlocal whole
        if whole:
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), max(0.0, until - monotonic()))
        except TimeoutError:
            raise HTTPException(408, f"the body was not whole in {BODY_SECONDS:g} s") from None
        whole = not message.get("more_body", False)
        return message

    return received


def waiting(status: int) -> dict[str, str] | None:
    """The header that says when to try again, where that helps."""
    return {"Retry-After": "5"} if status in (429, 503) else None

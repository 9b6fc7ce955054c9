"""Limits on what a request may send, held while it arrives."""

import asyncio
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException
from fastapi.responses import JSONResponse

Scope = dict[str, Any]
Message = dict[str, Any]


@dataclass(frozen=True)
class BodyLimits:
    """An ASGI application around another: bodies must be small, and arrive in time.

    Attributes:
        app: the application inside. What it answers once a limit is passed is left out: the body
            breaks off for it, and what it makes of that is not what was wrong.
        most_bytes: of a body; more is answered 413.
        seconds: for the whole body to arrive; slower is answered 408.
    """

    app: Any
    most_bytes: int
    seconds: float

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        """Handle a request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        if lengths and lengths[0].isdigit() and int(lengths[0]) > self.most_bytes:
            headers = {"Connection": "close"}
            refusal = JSONResponse({"detail": self._too_large.detail}, 413, headers)
            await refusal(scope, receive, send)
            return
        deadline = asyncio.get_running_loop().time() + self.seconds
        size, is_whole, is_answered = 0, False, False
        refused: HTTPException | None = None

        async def limited() -> Message:
            nonlocal size, is_whole, refused
            if is_whole:  # what comes next is that the client goes away
                return await receive()
            left = deadline - asyncio.get_running_loop().time()
            try:
                message = await asyncio.wait_for(receive(), max(left, 0.001))
            except TimeoutError:
                refused = self._too_slow
                raise refused from None
            size += len(message.get("body", b""))
            is_whole = message["type"] != "http.request" or not message.get("more_body", False)
            if size > self.most_bytes:
                refused = self._too_large
                raise refused
            return message

        async def answer(message: Message) -> None:
            nonlocal is_answered
            if refused is None or is_answered:
                is_answered = True
                await send(message)

        try:
            await self.app(scope, limited, answer)
        except HTTPException:
            if refused is None:
                raise
        if refused is not None and not is_answered:
            told = {"detail": refused.detail}
            await JSONResponse(told, refused.status_code, refused.headers)(scope, receive, send)

    @property
    def _too_slow(self) -> HTTPException:
        told = f"the request took longer than {self.seconds:g} seconds to arrive"
        return HTTPException(408, told, {"Connection": "close"})

    @property
    def _too_large(self) -> HTTPException:
        megabytes = self.most_bytes / 1e6
        told = f"the request has more than {megabytes:g} MB; send a smaller picture"
        return HTTPException(413, told, {"Connection": "close"})

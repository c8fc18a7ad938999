"""What every request passes before it is answered: the key, the rate, the size; and what is counted of it."""

import time
from dataclasses import dataclass
from typing import Final

from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from backsight_model.serving import metrics, problems
from backsight_model.serving.answers import Answers
from backsight_model.serving.keys import Keys, RateLimit

OPEN: Final = frozenset({"/", "/health", "/ready"})
"""Paths that need no key: the page, in which there is no data, and what says whether the process is well."""

LARGEST_BODY: Final = 64 << 10
"""Bytes of a request's body."""


@dataclass(frozen=True)
class Entrance:
    """An ASGI application behind the keys.

    Parameters
    ----------
    app : ASGIApp
        What is behind them.
    answers : Answers
        What it answers from.
    keys : Keys
        Who may ask; anybody where there are none.
    limit : RateLimit
        How often.
    """

    app: ASGIApp
    answers: Answers
    keys: Keys
    limit: RateLimit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or answer why not."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()
        status = 500

        async def noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._answer(scope, receive, noted)
        finally:
            route = scope.get("route")
            metrics.REQUESTS.labels(getattr(route, "path", "none"), str(status)).inc()
            metrics.SECONDS.observe(time.perf_counter() - began)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = None if scope["path"] in OPEN else self._refused(scope)
        if refused is not None:
            await refused(scope, receive, send)
            return
        taken = 0

        async def measured() -> Message:
            nonlocal taken
            message = await receive()
            taken += len(message.get("body", b""))
            if taken > LARGEST_BODY:
                raise HTTPException(413, f"the body has more than {LARGEST_BODY} bytes; ask for fewer symbols at once")
            return message

        await self.app(scope, measured, send)

    def _refused(self, scope: Scope) -> Response | None:
        headers = dict(scope["headers"])
        who = str((scope.get("client") or ("",))[0])
        if self.keys.names:
            found = self.keys.who(headers.get(b"authorization", b"").decode("latin-1"))
            if found is None:
                detail = "a key is needed: the header Authorization: Bearer KEY"
                document = problems.problem(401, "Unauthorized", detail, scope["path"])
                return problems.response(document, {"WWW-Authenticate": "Bearer"})
            who = found
        seconds = self.limit.wait(who, time.monotonic())
        if seconds:
            detail = f"{who} asks more often than {self.limit.per_second:g} times a second; wait {seconds:.1f} s"
            document = problems.problem(429, "TooManyRequests", detail, scope["path"])
            return problems.response(document, {"Retry-After": str(int(seconds) + 1)})
        return None

"""What reaches gradio: what the page itself sends, and no more of it than there is room for."""

import asyncio
import contextlib
import logging
import re
import time
from pathlib import Path
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse

logger = logging.getLogger(__name__)

# What the page needs. gradio has more: its documentation, proxies, recordings, monitoring.
_ADDRESSES = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/manifest\.json|/(assets|static|svelte)/.*"
    r"|/gradio_api/(startup-events|theme\.css|app_id|cancel|upload|upload_progress"
    r"|heartbeat/[^/]*|queue/(join|data)|file=/.*)"
)
_UPLOAD = "/gradio_api/upload"
#: gradio believes these, whoever sends them.
_PROXY_HEADERS = re.compile(rb"x-forwarded-.*|x-gradio-server|forwarded")

_BODY_BYTES = 2**20  # of a request that is no upload, and of an upload besides its file
_SIMULTANEOUS_UPLOADS, _UPLOADS_ON_DISK = 8, 4
_UPLOAD_SECONDS = 600


def middleware(
    folder: Path, sessions: Path, max_bytes: int, local_host: str | None
) -> list[Middleware]:
    """Return what requests go through.

    Args:
        folder: where gradio keeps uploads.
        sessions: a folder in it that has none: sessions have links to theirs.
        max_bytes: of an upload.
        local_host: the address that the page listens at, if it is this computer's own; else None.
    """
    chain = [Middleware(_Guard, folder=folder, sessions=sessions, max_bytes=max_bytes)]
    if local_host:  # A foreign site whose name is made to lead here has another name.
        names = ["localhost", "127.0.0.1", local_host]
        chain.append(Middleware(TrustedHostMiddleware, allowed_hosts=names))
    return chain


class _Guard:
    """ASGI middleware that refuses what the page does not send, and serves files as downloads."""

    def __init__(self, app, folder: Path, sessions: Path, max_bytes: int):
        self._app, self._max_bytes = app, max_bytes
        self._folder, self._sessions = folder, sessions
        self._turns = asyncio.Semaphore(_SIMULTANEOUS_UPLOADS)

    async def __call__(self, scope, receive, send):
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        else:
            await send({"type": "websocket.close"})

    async def _answer(self, scope, receive, send):
        started = False

        async def send_marked(message):
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                _forbid_guessing(MutableHeaders(scope=message), scope["path"])
            await send(message)

        try:
            answer = self._refusal(scope) or self._within_limits
            await answer(scope, receive, send_marked)
        except Exception as error:  # The page's own requests cause none.
            logger.warning(f"{scope['method']} {scope['path']!r}: {error!r}")
            if not started:
                await PlainTextResponse("Bad request", 400)(scope, receive, send_marked)

    def _refusal(self, scope) -> PlainTextResponse | None:
        headers, is_read = Headers(scope=scope), scope["method"] in ("GET", "HEAD")
        if not _ADDRESSES.fullmatch(scope["path"]):
            return PlainTextResponse("Not found", 404)
        is_link = is_read and scope["path"] == "/"
        if _is_foreign(headers) and not is_link:
            return PlainTextResponse("Only the page itself may ask for this", 403)
        if is_read:
            return None
        length = headers.get("content-length", "")
        if not length.isdecimal() or "transfer-encoding" in headers:
            return PlainTextResponse("Length required", 411)
        if int(length) > _BODY_BYTES + (scope["path"] == _UPLOAD) * self._max_bytes:
            return PlainTextResponse("Too large", 413)
        return None

    async def _within_limits(self, scope, receive, send):
        headers = [pair for pair in scope["headers"] if not _PROXY_HEADERS.fullmatch(pair[0])]
        scope = {**scope, "headers": headers}
        if scope["path"] != _UPLOAD:
            await self._app(scope, receive, send)
            return
        async with self._turns:
            self._make_room(_UPLOADS_ON_DISK * self._max_bytes)
            await asyncio.wait_for(self._app(scope, receive, send), _UPLOAD_SECONDS)

    def _make_room(self, size: int) -> None:
        """Remove uploads that are old, and the oldest so that at most ``size`` bytes remain."""
        with contextlib.suppress(FileNotFoundError):  # gradio has removed one in the meantime
            files = [path for path in self._folder.rglob("*") if path.is_file()]
            uploads = [path for path in files if self._sessions not in path.parents]
            for path in sorted(uploads, key=lambda path: -path.stat().st_mtime):
                size -= path.stat().st_size
                if size < 0 or time.time() - path.stat().st_mtime > _UPLOAD_SECONDS:
                    path.unlink()


def _is_foreign(headers: Headers) -> bool:
    """Whether a browser says that another site's page has made a request."""
    origin = headers.get("origin")
    return headers.get("sec-fetch-site", "none") not in ("none", "same-origin") or (
        origin is not None and urlsplit(origin).netloc != headers.get("host")
    )


def _forbid_guessing(headers: MutableHeaders, path: str) -> None:
    """Let a browser take a response for what it says it is, and a file for a download."""
    headers["X-Content-Type-Options"] = "nosniff"
    if path.startswith("/gradio_api/file="):
        _, semicolon, name = headers.get("content-disposition", "").partition(";")
        headers["Content-Disposition"] = f"attachment{semicolon}{name}"

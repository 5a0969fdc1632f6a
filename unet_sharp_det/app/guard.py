"""Which requests are answered: those of the page itself, of a limited size."""

from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response

BODY_BYTES = 2**20  # of a request that is no upload
# The one style that OpenSeadragon adds to the page.
_ITS_STYLE = "'sha256-9xTiqzfwFaL2SGb1rmr8gysEwVVjIvqWAgmZgqFqpEE='"
#: A browser then loads and runs only what this server sends as such; nobody may frame the page.
SAFE_HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'self'; style-src 'self' {_ITS_STYLE}; img-src 'self' data:; "
        "object-src 'none'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def refusal(request: Request, upload: str, max_bytes: int) -> Response | None:
    """Return why a request gets no answer, or None if it does.

    Args:
        upload: the path that files of at most ``max_bytes`` are sent to.
    """
    headers, is_read = request.headers, request.method in ("GET", "HEAD")
    if _is_foreign(headers) and not (is_read and request.url.path == "/"):  # may be a link
        return PlainTextResponse("Only the page itself may ask for this", 403)
    if is_read:
        return None
    length = headers.get("content-length", "0" if request.method == "DELETE" else "")
    if not (length.isascii() and length.isdecimal()) or "transfer-encoding" in headers:
        return PlainTextResponse("Length required", 411)
    if int(length) > (max_bytes if request.url.path == upload else BODY_BYTES):
        return PlainTextResponse("Too large", 413)
    return None


def _is_foreign(headers: Headers) -> bool:
    """Whether a browser says that another site's page has made a request."""
    origin = headers.get("origin")
    return headers.get("sec-fetch-site", "none") not in ("none", "same-origin") or (
        origin is not None and urlsplit(origin).netloc != headers.get("host")
    )

"""Starting the app, and keeping it to itself: nothing leaves the computer, little comes in."""

import contextlib
import ipaddress
import logging
import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ..errors import UserError
from .analysis import Analyser
from .sessions import Sessions

logger = logging.getLogger(__name__)

_QUEUE_LENGTH = 32
#: Environment variables that keep gradio and what it uses from making requests of their own.
QUIET = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}


@contextlib.contextmanager
def serving(
    analyser: Analyser,
    *,
    host: str = "127.0.0.1",
    port: int | None = 7860,
    max_upload_mb: float = 200,
    pixel_size: float = 0,
    score_threshold: float = 0.5,
    min_area: int = 0,
    example: Path | None = None,
) -> Iterator[str]:
    """Serve the page until the block ends; yields its address.

    Args:
        analyser: opens images and finds objects.
        host: the address to listen at. Without a password: any but this computer's own is warned
            about.
        port: to listen at. None: any that is free.
        max_upload_mb: size of a file in MiB.
        pixel_size: in micrometres, that the page has at first; 0: as the file says.
        score_threshold, min_area: that the page has at first, least score and pixels.
        example: an image that the page offers, or None.

    Raises:
        UserError: the address cannot be used.
        ModuleNotFoundError: gradio is missing.
    """
    _check_address(host, port)
    is_local = is_loopback(host)
    if not is_local:
        logger.warning(
            f"--host {host}: whoever reaches this computer can use the page; it has no password."
        )
    with tempfile.TemporaryDirectory(prefix="unet_sharp_det_app_") as name:
        os.environ.update(QUIET, GRADIO_TEMP_DIR=name)
        import gradio  # noqa: F401 - if it is missing, it is what the user has to install

        from .guard import middleware
        from .page import CSS, THEME, Page

        folder = Path(name).resolve()
        sessions = folder / "sessions"
        sessions.mkdir()
        max_bytes = int(max_upload_mb * 2**20)
        page = Page(
            analyser,
            Sessions(sessions),
            pixel_size=pixel_size,
            score_threshold=score_threshold,
            min_area=min_area,
            example=example,
        )
        blocks = page.blocks.queue(max_size=_QUEUE_LENGTH, api_open=False)
        _, address, _ = blocks.launch(
            server_name=host,
            server_port=port,
            share=False,
            prevent_thread_lock=True,
            quiet=True,
            max_file_size=max_bytes,
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            mcp_server=False,
            ssr_mode=False,
            state_session_capacity=64,
            app_kwargs={
                "middleware": middleware(folder, sessions, max_bytes, host if is_local else None),
                "docs_url": None,
            },
            theme=THEME,
            css=CSS,
        )
        try:
            yield address
        finally:
            blocks.close(verbose=False)


def is_loopback(host: str) -> bool:
    """Say whether an address is one that only this computer itself can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_address(host: str, port: int | None) -> None:
    if ":" in host:
        raise UserError(f"--host {host}: the page has no IPv6 addresses. Use one like 127.0.0.1.")
    try:
        socket.create_server((host, port or 0)).close()
    except OSError as error:
        where = f"--host {host}" + (f" --port {port}" if port else "")
        raise UserError(
            f"{where}: cannot be used ({error.strerror or error}). Choose another --port, or "
            "leave --host away."
        ) from error

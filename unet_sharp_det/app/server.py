"""Starting the app, and keeping it to itself: nothing leaves the computer, little comes in."""

import contextlib
import ipaddress
import logging
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .. import model_zoo
from ..errors import UserError
from .isolation import IsolatedAnalyser
from .queue import LONGEST_END, Queue
from .sessions import Sessions

if TYPE_CHECKING:
    from .routes import Model

logger = logging.getLogger(__name__)

_MOST_CONNECTIONS = 64


@contextlib.contextmanager
def serving(
    analyser: IsolatedAnalyser,
    models: "Mapping[str, Model]",
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_upload_mb: float = 200,
    example: Path = model_zoo.SAMPLE,
) -> Iterator[str]:
    """Serve the page until the block ends; yields its address.

    Args:
        analyser: opens images and finds objects.
        models: that the page offers, by name, the one that is chosen at first before others.
        host: the address to listen at. Without a password: any but this computer's own is warned
            about.
        port: to listen at. 0: any that is free.
        max_upload_mb: size of a file in MiB.
        example: an image that the page offers.

    Raises:
        UserError: the address cannot be used.
        ModuleNotFoundError: FastAPI or uvicorn is missing.
    """
    import uvicorn
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    from .routes import Service, create_app

    with (
        _listen(host, port) as listener,
        tempfile.TemporaryDirectory(prefix="unet_sharp_det_app_") as folder,
        contextlib.closing(Queue(analyser)) as queue,
    ):
        port = listener.getsockname()[1]
        service = Service(
            analyser=analyser,
            sessions=Sessions(Path(folder).resolve()),
            queue=queue,
            models=models,
            max_bytes=int(max_upload_mb * 2**20),
            example=example,
            cookie=f"unet_sharp_det_{port}",
        )
        app = create_app(service)
        if is_loopback(host):  # A foreign site whose name is made to lead here has another name.
            names = ["localhost", "127.0.0.1", host]
            app.add_middleware(TrustedHostMiddleware, allowed_hosts=names, www_redirect=False)
        else:
            logger.warning(
                f"--host {host}: whoever reaches this computer can use the page; it has no "
                "password."
            )
        config = uvicorn.Config(
            app,
            lifespan="off",
            ws="none",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=1,
        )
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        try:
            thread.start()
            yield f"http://{host}:{port}/"
        finally:
            server.should_exit = True
            if thread.is_alive():  # not when the start was interrupted
                thread.join(LONGEST_END)


def is_loopback(host: str) -> bool:
    """Say whether an address is one that only this computer itself can reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port))
    except OSError as error:
        raise UserError(
            f"--host {host} --port {port}: cannot be used ({error.strerror or error}). Choose "
            "another --port, or leave --host away."
        ) from error

"""The addresses of the server: the page, and what it asks for and changes of its visitor's images.

Errors of users are answered with status 400 and ``{"error": message}``.
"""

import asyncio
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Response
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from .. import __version__
from ..errors import UserError, look_up_option
from ..outputs import OUTPUTS
from ..prediction.options import LOWEST_SCORE
from .analysis import Search, View, objects_file
from .cards import render_card
from .guard import SAFE_HEADERS, refusal
from .isolation import IsolatedAnalyser
from .queue import Queue
from .results import write_archive
from .sessions import Image, Session, Sessions
from .tiles import TILE

STATIC = Path(__file__).parent / "static"
_UPLOAD = "/api/images"
_UPLOAD_SECONDS = 600
_UPLOADS_ON_DISK = 4  # of the largest size, of a visitor
_CHOSEN_KINDS = ("labels", "table", "overlay", "rois", "geojson")


@dataclass(frozen=True)
class Model:
    """What the page says of a model.

    Attributes:
        card: in Markdown, what there is to say of it.
        score_threshold: least score that the page has at first.
    """

    card: str
    score_threshold: float = 0.5


@dataclass(frozen=True)
class Service:
    """What the routes work with.

    Attributes:
        models: by name, the one that is chosen at first before others.
        max_bytes: of an upload.
        example: an image that the page offers.
        cookie: its name, which has the port, since cookies of a host are sent to all of its ports.
    """

    analyser: IsolatedAnalyser
    sessions: Sessions
    queue: Queue
    models: Mapping[str, Model]
    max_bytes: int
    example: Path
    cookie: str


class ViewChoice(BaseModel):
    plane: int = Field(ge=0)
    channels: list[int]
    projected: bool = False


class SearchChoice(BaseModel):
    images: list[int]
    models: list[str] = Field(min_length=1, max_length=2)
    diameter: float | None = Field(None, ge=0.1, le=100_000)


class ResultsChoice(BaseModel):
    model: str
    limits: dict[str, tuple[float | None, float | None]]
    kinds: list[str] = Field(min_length=1)
    pixel_size: float | None = Field(None, gt=0)


def create_app(service: Service) -> FastAPI:
    """Return the application, which keeps what ``service`` holds."""
    app = FastAPI(openapi_url=None)
    app.state.service = service

    @app.middleware("http")
    async def guard(request: Request, call_next):
        response = refusal(request, _UPLOAD, service.max_bytes) or await call_next(request)
        response.headers.update(SAFE_HEADERS)
        return response

    @app.exception_handler(UserError)
    def tell(request: Request, error: UserError) -> Response:
        return JSONResponse({"error": str(error)}, 400)

    app.include_router(router)
    app.mount("/static", StaticFiles(directory=STATIC))
    return app


def _service(request: Request) -> Service:
    return request.app.state.service


Known = Annotated[Service, Depends(_service)]


def _key(request: Request, service: Known) -> str:
    key = request.cookies.get(service.cookie, "")
    if len(key) < 32:
        raise HTTPException(403, "Open the page first")
    return key


Key = Annotated[str, Depends(_key)]


def _session(service: Known, key: Key) -> Session:
    """Return the visitor's session; who has opened no image yet has none."""
    session = service.sessions.get(key)
    if session is None:
        raise UserError("No image is open, or they were removed in the meantime. Open one.")
    return session


Visitor = Annotated[Session, Depends(_session)]
router = APIRouter()


@router.get("/")
def page() -> Response:
    return FileResponse(STATIC / "index.html")


@router.get("/models/{name}")
def card(name: str, service: Known) -> Response:
    model = service.models.get(name)
    if model is None:
        raise HTTPException(404)
    return HTMLResponse(render_card(name, model.card))


@router.get("/api/page")
def settings(request: Request, response: Response, service: Known) -> dict:
    """Return what the page needs to know first, and give a new visitor a key."""
    if len(request.cookies.get(service.cookie, "")) < 32:
        response.set_cookie(
            service.cookie, secrets.token_urlsafe(32), httponly=True, samesite="strict"
        )
    return {
        "models": [
            {"name": name, "score_threshold": each.score_threshold}
            for name, each in service.models.items()
        ],
        "kinds": [
            {"name": name, "meaning": each.meaning, "chosen": name in _CHOSEN_KINDS}
            for name, each in OUTPUTS.items()
            if each.is_available and not each.is_folder
        ],
        "lowest_score": LOWEST_SCORE,
        "max_bytes": service.max_bytes,
        "tile": TILE,
        "version": __version__,
    }


@router.get("/api/images")
def images(service: Known, key: Key) -> list[dict]:
    session = service.sessions.get(key)
    if session is None:
        return []
    with session.lock:
        return [_describe(each) for each in session.images.values() if each.view is not None]


def _describe(image: Image) -> dict:
    return {
        "number": image.number,
        "name": image.path.name,
        **asdict(image.file),
        "plane": image.view.plane,
        "chosen_channels": image.view.channels,
        "is_projected": image.view.projected,
        "tiles": f"{image.number}/tiles/{image.tiles.name}",
        "last_level": image.last_level,
        "tasks": {
            model: {
                "key": task.folder.name,
                "state": task.state,
                "fraction": task.fraction,
                "error": task.error,
            }
            for model, task in image.tasks.items()
        },
    }


@router.post(_UPLOAD)
async def upload(request: Request, name: str, service: Known, key: Key) -> dict:
    session = service.sessions.open(key)
    size = int(request.headers["content-length"])
    image = session.add(name, size, _UPLOADS_ON_DISK * service.max_bytes)
    try:
        await asyncio.wait_for(_receive(request, image.path), _UPLOAD_SECONDS)
    except (ClientDisconnect, asyncio.TimeoutError, OSError) as error:
        session.remove(image.number)
        raise UserError(f"{name}: was not sent as a whole. Try again.") from error
    return await run_in_threadpool(_open, service, session, image)


async def _receive(request: Request, path: Path) -> None:
    with open(path, "wb") as file:
        async for part in request.stream():
            file.write(part)


@router.post("/api/example")
def open_example(service: Known, key: Key) -> dict:
    session = service.sessions.open(key)
    size = service.example.stat().st_size
    name = f"example{service.example.suffix}"
    image = session.add(name, size, _UPLOADS_ON_DISK * service.max_bytes)
    shutil.copyfile(service.example, image.path)
    return _open(service, session, image)


def _open(service: Service, session: Session, image: Image) -> dict:
    try:
        image.file = service.analyser.inspect(image.path)
        return _show(service, session, image, View(image.path, 0, image.file.default_channels))
    except BaseException:
        session.remove(image.number)
        raise


def _show(service: Service, session: Session, image: Image, view: View) -> dict:
    tiles = image.new_folder()
    last_level = service.analyser.render(view, tiles)
    with session.lock:
        image.show(view, tiles, last_level)
        return _describe(image)


@router.delete("/api/images/{number}")
def remove(number: int, session: Visitor) -> None:
    session.remove(number)


@router.post("/api/images/{number}/view")
def show(number: int, choice: ViewChoice, service: Known, session: Visitor) -> dict:
    image = session.image(number)
    view = View(image.path, choice.plane, tuple(choice.channels), choice.projected)
    return _show(service, session, image, view)


@router.get("/api/images/{number}/tiles/{version}/{level}/{column}_{row}.jpg")
def tile(
    number: int, version: str, level: int, column: int, row: int, session: Visitor
) -> Response:
    tiles = session.image(number).tiles
    path = tiles / str(level) / f"{column}_{row}.jpg"
    if version != tiles.name or not path.is_file():
        raise HTTPException(404)
    return FileResponse(path, headers={"Cache-Control": "private, max-age=3600, immutable"})


@router.post("/api/searches")
def search(choice: SearchChoice, service: Known, session: Visitor, key: Key) -> list[dict]:
    for model in choice.models:
        look_up_option(model, service.models, "Model")
    with session.lock:
        chosen = [session.image(number) for number in dict.fromkeys(choice.images)]
        for image in chosen:
            for model in choice.models:
                task = image.start(Search(model, choice.diameter))
                service.queue.add(key, task)
    return images(service, key)


@router.delete("/api/searches")
def cancel(service: Known, session: Visitor, key: Key) -> list[dict]:
    """Stop all searches of the visitor that wait or run."""
    with session.lock:
        for image in session.images.values():
            for task in image.tasks.values():
                task.stop()
    return images(service, key)


@router.get("/api/images/{number}/objects/{model}")
def objects(number: int, model: str, session: Visitor) -> Response:
    return FileResponse(objects_file(session.image(number).done(model).folder))


@router.get("/api/images/{number}/pairs/{model}/{other}")
def pairs(number: int, model: str, other: str, service: Known, session: Visitor) -> list:
    image = session.image(number)
    return service.analyser.compare(image.done(model).folder, image.done(other).folder)


@router.post("/api/results")
def write_results(choice: ResultsChoice, service: Known, session: Visitor) -> None:
    """Make the archive that :func:`results` sends."""
    look_up_option(choice.model, service.models, "Model")
    with session.lock:
        done = [
            (image, image.tasks[choice.model])
            for image in session.images.values()
            if choice.model in image.tasks and image.tasks[choice.model].state == "done"
        ]
    if not done:
        raise UserError("Nothing has been found yet. Press Find objects.")
    size = choice.pixel_size and (choice.pixel_size, choice.pixel_size)
    path = session.folder / f"{choice.model}_results.zip"
    write_archive(service.analyser, done, path, choice.limits, size, choice.kinds)


@router.get("/api/results/{model}")
def results(model: str, service: Known, session: Visitor) -> Response:
    look_up_option(model, service.models, "Model")
    path = session.folder / f"{model}_results.zip"
    if not path.is_file():
        raise HTTPException(404)
    return FileResponse(path, filename=path.name)

"""The page: its layout, and what happens when something on it is used."""

import functools
from pathlib import Path

import gradio as gr

from ..errors import UserError
from ..outputs import OUTPUTS
from .analysis import LOWEST_SCORE, Analyser, Found, ImageFile, View
from .presentation import draw_objects, histogram, measure, message, summary
from .sessions import NO_IMAGE, Session, Sessions

DOWNLOADS = ("labels", "table", "rois", "geojson")

TITLE = "Find and measure objects"
INTRODUCTION = (
    "Drop a microscopy image (PNG, JPEG or TIFF), press **Find objects**, then move the score "
    "threshold until the outlines fit. Images stay on the computer that runs this page."
)

THEME = gr.themes.Default(
    primary_hue=gr.themes.colors.blue,
    font=["system-ui", "sans-serif"],
    font_mono=["ui-monospace", "monospace"],
)

CSS = """
.gradio-container { max-width: 1500px !important; margin: 0 auto !important; }
.numbers { display: grid; grid-template-columns: repeat(auto-fit, minmax(120px, 1fr)); gap: 8px;
  margin: 0; }
.numbers div { background: var(--block-background-fill); border-radius: var(--radius-lg);
  border: 1px solid var(--border-color-primary); padding: 8px 14px; }
.numbers dt { color: var(--body-text-color-subdued); font-size: var(--text-sm); }
.numbers dd { margin: 0; font-size: 1.35rem; font-weight: 600; font-variant-numeric: tabular-nums; }
#histogram svg { display: block; width: 100%; height: auto; max-width: 640px; }
#histogram text { fill: currentColor !important; font-family: inherit !important; }
.message { margin: 0; padding: 10px 14px; border-radius: var(--radius-lg);
  border: 1px solid var(--border-color-primary); }
.message.alert { border-color: #d14343; border-left-width: 5px; }
"""


class _Blocks(gr.Blocks):
    """Blocks that download nothing: gradio would fetch a file that is given by its address."""

    is_template = True

    async def preprocess_data(self, block_fn, inputs, *args, **kwargs):
        if _names_an_address(inputs):
            raise gr.Error("Files can only be uploaded.", print_exception=False)
        return await super().preprocess_data(block_fn, inputs, *args, **kwargs)


def _names_an_address(data) -> bool:
    if isinstance(data, dict):
        path = data.get("path")
        is_address = isinstance(path, str) and "://" in path
        return is_address or any(map(_names_an_address, data.values()))
    return isinstance(data, list) and any(map(_names_an_address, data))


def _shows_errors(action):
    """Let a user's mistake become a message; the rest of the page stays as it is."""

    @functools.wraps(action)
    def wrapped(self, *args, **kwargs):
        try:
            return action(self, *args, **kwargs)
        except UserError as error:
            return self._say(str(error), error=True)

    return wrapped


class Page:
    """The page; :attr:`blocks` is gradio's.

    Actions take the values of components and return updates by component; components that they do
    not name stay as they are.

    Args:
        analyser: opens images and finds objects.
        sessions: what is kept of open pages.
        pixel_size: in micrometres, that the page has at first; 0: as the file says.
        score_threshold, min_area: that the page has at first, least score and pixels.
        example: an image that is offered, or None.
    """

    def __init__(
        self,
        analyser: Analyser,
        sessions: Sessions,
        *,
        pixel_size: float = 0,
        score_threshold: float = 0.5,
        min_area: int = 0,
        example: Path | None = None,
    ):
        self._analyser, self._sessions, self._example = analyser, sessions, example
        with _Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, 86400)) as blocks:
            gr.Markdown(f"# {TITLE}\n{INTRODUCTION}")
            self.message = gr.HTML("", visible=False, elem_id="message", padding=False)
            with gr.Row():
                with gr.Column(scale=3, min_width=280):
                    self._lay_out_controls(pixel_size, score_threshold, min_area)
                with gr.Column(scale=6, min_width=320):
                    self._lay_out_picture()
                with gr.Column(scale=4, min_width=320, visible=False) as self.results:
                    self._lay_out_results()
            self._connect()
            blocks.unload(self.close)
        self.blocks = blocks

    def _lay_out_controls(self, pixel_size: float, score: float, min_area: int) -> None:
        self.upload = gr.File(label="Image (PNG, JPEG or TIFF)", height=150, elem_id="upload")
        self.example = gr.Button("Use an example image", size="sm", visible=bool(self._example))
        self.plane = gr.Slider(1, 2, 1, step=1, label="Plane", visible=False, elem_id="plane")
        with gr.Accordion("Channels", open=False, visible=False) as self.more:
            self.channels = gr.Dropdown(
                [("channel 0", 0)],
                value=[0],
                multiselect=True,
                max_choices=3,
                label="Channels",
                info="One, or three that the model sees as red, green and blue.",
                elem_id="channels",
            )
        self.start = gr.Button(
            "Find objects", variant="primary", interactive=False, elem_id="start"
        )
        self.score = gr.Slider(
            LOWEST_SCORE,
            1,
            score,
            step=0.01,
            label="Score threshold",
            info="Higher: fewer objects, of which the model is surer.",
            elem_id="score",
        )
        self.min_area = gr.Number(
            min_area, label="Smallest object (pixels)", minimum=0, precision=0, elem_id="min-area"
        )
        self.pixel_size = gr.Number(
            pixel_size,
            label="Pixel size (µm)",
            info="0: as the file says, if it does. With it areas are in µm².",
            minimum=0,
            elem_id="pixel-size",
        )

    def _lay_out_picture(self) -> None:
        self.picture = gr.Image(
            label="Image",
            interactive=False,
            format="png",
            height="min(600px, 92vw)",
            buttons=["download", "fullscreen"],
            alt_text="The image with the outlines of the objects",
            elem_id="picture",
        )
        self.outlines = gr.Checkbox(True, label="Show outlines", elem_id="outlines")

    def _lay_out_results(self) -> None:
        self.numbers = gr.HTML("", elem_id="numbers", padding=False)
        self.histogram = gr.HTML("", elem_id="histogram", padding=False)
        self.kinds = gr.CheckboxGroup(
            [
                (each.meaning[0].upper() + each.meaning[1:], key)
                for key, each in OUTPUTS.items()
                if each.is_available and not each.is_folder
            ],
            value=list(DOWNLOADS),
            label="Files of these objects",
            elem_id="kinds",
        )
        self.write = gr.Button("Make files to download", elem_id="write")
        self.files = gr.File(
            label="Click on a size to download the file",
            interactive=False,
            visible=False,
            file_count="multiple",
            elem_id="files",
        )

    def _connect(self) -> None:
        view = [self.plane, self.channels]
        filters = [self.score, self.min_area, self.pixel_size, self.outlines]
        quick = {"concurrency_id": "quick", "concurrency_limit": 4, "api_visibility": "private"}
        latest = {**quick, "trigger_mode": "always_last", "show_progress": "hidden"}
        shown = [self.message, self.picture, self.results]
        results = [*shown, self.numbers, self.histogram, self.files]
        opened = [*results, *view, self.more, self.start]

        self.upload.upload(self.open_upload, self.upload, opened, **quick)
        self.upload.clear(self.open_nothing, None, opened, **quick)
        self.example.click(self.open_example, None, [*opened, self.upload], **quick)
        for component in view:
            component.input(self.show_view, view, results, **latest)
        self.start.click(
            self.find,
            [*view, *filters],
            results,
            concurrency_id="network",
            concurrency_limit=1,
            api_visibility="private",
            show_progress_on=self.picture,
        )
        for component in filters:
            component.input(self.adjust, filters, results, **latest)
        wanted = [self.score, self.min_area, self.pixel_size, self.kinds]
        self.write.click(self.write_files, wanted, results, show_progress_on=self.write, **quick)

    @_shows_errors
    def open_upload(self, upload: str, request: gr.Request) -> dict:
        return self._open(Path(upload), Path(upload).name, request)

    @_shows_errors
    def open_example(self, request: gr.Request) -> dict:
        name = f"example{self._example.suffix}"
        return {**self._open(self._example, name, request), self.upload: None}

    def open_nothing(self, request: gr.Request) -> dict:
        session = self._sessions.get(request.session_hash)
        if session is not None:
            with session.lock:
                session.forget_image()
        nothing = {**self._opened(ImageFile()), self.start: gr.Button(interactive=False)}
        return {**nothing, **self._say(""), self.picture: None}

    def _open(self, path: Path, name: str, request: gr.Request) -> dict:
        session = self._sessions.open(request.session_hash)
        with session.lock:
            try:
                kept = session.take_image(path, name)
                file = self._analyser.inspect(kept)
                view = session.view = View(kept, 0, file.default_channels)
                picture = session.write_picture(self._analyser.display(view))
            except UserError as error:
                return {**self.open_nothing(request), **self._say(str(error), error=True)}
        return {**self._opened(file), **self._say(""), self.picture: str(picture)}

    def _session(self, request: gr.Request) -> Session:
        session = self._sessions.get(request.session_hash)
        if session is None:
            raise UserError(NO_IMAGE)
        return session

    def _say(self, text: str, *, error: bool = False) -> dict:
        return {self.message: gr.HTML(message(text, error=error), visible=bool(text))}

    def _opened(self, file: ImageFile) -> dict:
        """Show what there is to choose in a file, and no results."""
        planes, channels = file.planes, file.channels
        return {
            self.results: gr.Column(visible=False),
            self.plane: gr.Slider(
                value=1,
                maximum=max(len(planes), 2),
                visible=len(planes) > 1,
                info=f"1 is {planes[0]}, {len(planes)} is {planes[-1]}.",
            ),
            self.more: gr.Accordion(visible=channels > 1, open=channels != 3),
            self.channels: gr.Dropdown(
                [(label, number) for number, label in enumerate(file.channel_labels)],
                value=list(file.default_channels),
                multiselect=True,
            ),
            self.start: gr.Button(interactive=True),
        }

    @_shows_errors
    def show_view(self, plane: int, channels: list[int], request: gr.Request) -> dict:
        session = self._session(request)
        shown = {self.results: gr.Column(visible=False)}
        with session.lock:
            session.found = None
            try:
                view = _choose_view(session, plane, channels)
            except UserError as error:
                return {**shown, **self._say(str(error), error=True)}
            picture = session.write_picture(self._analyser.display(view))
        return {**shown, **self._say(""), self.picture: str(picture)}

    @_shows_errors
    def find(
        self,
        plane: int,
        channels: list[int],
        score: float,
        min_area: int,
        pixel_size: float,
        outlines: bool,
        request: gr.Request,
        progress=gr.Progress(),  # noqa: B008 - how gradio is asked for it
    ) -> dict:
        session = self._session(request)
        view = _choose_view(session, plane, channels)

        def report(fraction: float) -> None:
            if session.view != view:
                raise UserError("Another image, plane or channel was chosen in the meantime.")
            progress(min(fraction, 1), desc="Looking for objects")

        found = self._analyser.find(view, report)
        with session.lock:
            report(1)
            session.found = found
            return self._show(session, score, min_area, pixel_size, outlines)

    @_shows_errors
    def adjust(self, score, min_area, pixel_size, outlines, request: gr.Request) -> dict:
        session = self._sessions.get(request.session_hash)
        if session is None:
            return {}
        with session.lock:
            if session.found is None:
                return {}
            return self._show(session, score, min_area, pixel_size, outlines)

    def _show(self, session: Session, score, min_area, pixel_size, outlines) -> dict:
        found = session.current_found()
        objects = found.objects(score, int(min_area or 0))
        drawn = objects if outlines else objects.select([])
        picture = session.write_picture(draw_objects(found.display, drawn, found.class_names))
        sizes = measure(objects, _pixel_size(pixel_size, found))
        text = "" if len(objects) else "No object has this score and size. Lower the threshold?"
        return {
            **self._say(text),
            self.picture: str(picture),
            self.results: gr.Column(visible=True),
            self.numbers: summary(sizes, objects, found.class_names),
            self.histogram: histogram(sizes),
            self.files: gr.File(None, visible=False),
        }

    @_shows_errors
    def write_files(self, score, min_area, pixel_size, names, request: gr.Request) -> dict:
        if not names:
            raise UserError("Choose at least one kind of file.")
        session = self._session(request)
        with session.lock:
            found = session.current_found()
            objects = found.objects(score, int(min_area or 0))
            folder, size = session.results_folder(), _pixel_size(pixel_size, found)
            files = self._analyser.write(found, objects, size, folder, names)
        listed = gr.File([str(file) for file in files], visible=True, interactive=False)
        return {**self._say(""), self.files: listed}

    def close(self, request: gr.Request) -> None:
        self._sessions.close(request.session_hash)


def _pixel_size(entered: float | None, found: Found) -> tuple[float, float] | None:
    return (entered, entered) if entered else found.pixel_size


def _choose_view(session: Session, plane: int, channels: list[int]) -> View:
    """Note in the session what the page's fields say: the plane from 1, and the channels."""
    session.view = View(session.current_image(), int(plane) - 1, tuple(channels))
    if len(channels) not in (1, 3):
        raise UserError("Choose one channel, or three.")
    return session.view

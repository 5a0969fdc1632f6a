"""The panel in which an image layer, a model and a channel are chosen."""

import functools
from collections.abc import Iterable, Sequence

import napari
from magicgui.widgets import (
    ComboBox,
    Container,
    FileEdit,
    FloatSpinBox,
    Label,
    ProgressBar,
    PushButton,
    create_widget,
)
from napari.utils.notifications import show_error

from ..checkpoints.sources import model_names
from ..errors import UserError
from ..prediction.options import AUTO, LOWEST_SCORE, PredictionOptions
from .find import Found
from .layers import LayerImage
from .worker import FindWorker

_OTHER = "a file ..."
_ALL, _NONE = ("all", None), ("none", None)


class FindObjects(Container):
    """Finds the objects of an image layer, and adds a layer of labels with a table of them.

    Args:
        napari_viewer: has the layers.
    """

    def __init__(self, napari_viewer: "napari.viewer.Viewer"):
        self._viewer = napari_viewer
        self._worker: FindWorker | None = None
        self._shown: tuple[napari.layers.Labels, Found] | None = None  # that the threshold filters
        self.image = create_widget(annotation=napari.layers.Image, label="image")
        self.model = ComboBox(label="model", choices=[*model_names(), _OTHER], value="nuclei")
        self.file = FileEdit(label="model file", filter="*.safetensors *.pth", visible=False)
        self.channel_axis = ComboBox(label="channel axis", choices=self._axes)
        self.channel = ComboBox(label="channel", choices=self._channels)
        self.scale = FloatSpinBox(
            value=0,
            max=64,
            step=0.1,
            label="scale",
            tooltip="Factor to resize the image by: 0.5 if its objects are twice as large as those "
            "of the training. Automatic: each plane by the size of what is found in it.",
        )
        self.threshold = FloatSpinBox(
            value=0,
            max=1,
            step=0.05,
            label="score threshold",
            tooltip="Least score of an object. Higher: fewer objects, of which the model is surer. "
            "It changes the latest labels at once, until you paint in them.",
        )
        self.seen = Label(label="seen at", visible=False)
        self.scale.native.setSpecialValueText("automatic")
        self.threshold.native.setSpecialValueText("the model's own")
        self.seen.native.setWordWrap(True)
        self.start = PushButton(text="Find objects")
        self.cancel = PushButton(text="Cancel", enabled=False)
        self.progress = ProgressBar(value=0, max=100, label="done (%)")
        super().__init__(
            widgets=[
                *(self.image, self.model, self.file, self.channel_axis, self.channel),
                *(self.scale, self.seen, self.threshold, self.start, self.cancel, self.progress),
            ]
        )
        self.model.changed.connect(self._show_file)
        self.image.changed.connect(self._offer_axes)
        self.channel_axis.changed.connect(self.channel.reset_choices)
        self.threshold.changed.connect(self._filter)
        self.start.changed.connect(self._find)
        self.cancel.changed.connect(self._end)
        self.native.destroyed.connect(self._leave)
        self._show_file(self.model.value)
        self._offer_axes()

    def _show_file(self, model: str) -> None:
        self.file.visible = model == _OTHER

    def _offer_axes(self) -> None:
        self.channel_axis.reset_choices()
        self.channel.reset_choices()

    def _axes(self, _) -> list[tuple[str, int | None]]:
        layer = self.image.value
        sizes = () if layer is None else LayerImage(layer).pixels.shape[: layer.ndim - 2]
        return [_NONE, *((f"axis {axis} (of {size})", axis) for axis, size in enumerate(sizes))]

    def _channels(self, _) -> list[tuple[str, int | None]]:
        layer = self.image.value
        count = 1 if layer is None else self._layer_image().channels
        if count == 1:
            return [_ALL]
        names = ["red", "green", "blue"] if layer.rgb else [f"channel {n}" for n in range(count)]
        numbered = [(name, number) for number, name in enumerate(names)]
        return [_ALL, *numbered] if count == 3 else numbered

    def _layer_image(self) -> LayerImage:
        return LayerImage(self.image.value, self.channel_axis.value)

    def _find(self) -> None:
        if self.image.value is None:
            show_error("There is no image. Open one first.")
            return
        weights = str(self.file.value) if self.model.value == _OTHER else self.model.value
        options = PredictionOptions(score_threshold=LOWEST_SCORE, scale=self.scale.value or AUTO)
        image = self._layer_image()
        worker = FindWorker(weights, options, image, self.channel.value)
        worker.yielded.connect(self._show_progress)
        worker.returned.connect(functools.partial(self._add, image))
        worker.errored.connect(_show)
        worker.finished.connect(self._rest)
        self._worker = worker
        self.start.enabled, self.cancel.enabled = False, True
        worker.start()

    def _show_progress(self, fraction: float) -> None:
        self.progress.value = round(100 * fraction)

    def _add(self, image: LayerImage, found: Found) -> None:
        labels, features = found.at_least(self.threshold.value or found.score_threshold)
        layer = self._viewer.add_labels(
            labels, name=f"{image.layer.name} objects", features=features, **image.position()
        )
        layer.events.paint.connect(functools.partial(self._leave_to_user, found))
        self._shown = layer, found
        self.seen.value, self.seen.visible = _describe(found.scales), True
        self._viewer.window.add_plugin_dock_widget("napari", "Features table widget")

    def _filter(self, score: float) -> None:
        """Show the objects of another score in the latest labels."""
        if self._shown is not None:
            layer, found = self._shown
            layer.data, layer.features = found.at_least(score or found.score_threshold)

    def _leave_to_user(self, found: Found, event) -> None:
        """Keep labels that the user has changed as they are."""
        if self._shown is not None and self._shown[1] is found:
            self._shown = None

    def _rest(self) -> None:
        self._worker = None
        self.start.enabled, self.cancel.enabled = True, False
        self.progress.value = 0

    def _end(self) -> None:
        if self._worker is not None:
            self._worker.quit()

    def _leave(self) -> None:
        """End the search of a panel that is closed, which nothing may reach any more."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.quit()
            for signal in (worker.yielded, worker.returned, worker.errored, worker.finished):
                signal.disconnect()


def _describe(scales: Sequence[tuple[float, float]]) -> str:
    """Say at which scales planes were seen, and for which median diameters."""
    times = _range(scale for scale, _ in scales)
    sizes = _range(diameter for _, diameter in scales if diameter)
    return f"{times} times" + (f", for objects of {sizes} pixels" if sizes else "")


def _range(values: Iterable[float]) -> str:
    ends = [f"{value:.3g}" for value in sorted(values)]
    return " to ".join(dict.fromkeys([*ends[:1], *ends[-1:]]))


def _show(error: Exception) -> None:
    """Tell a user's mistake; leave any other error to napari, which offers its traceback."""
    if not isinstance(error, UserError):
        raise error
    show_error(str(error))

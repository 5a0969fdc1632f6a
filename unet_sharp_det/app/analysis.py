"""What the app finds out about an image: its planes, and its objects above a score."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import DatasetError, UserError
from ..images.source import DEFAULT_CHANNELS, ImageSource, ReadOptions, open_image
from ..masks.instances import SparseInstances
from ..outputs import OutputContext, write_outputs
from .presentation import to_display

#: The network looks for objects from this score on, so that other thresholds need no second look.
LOWEST_SCORE = 0.05


@dataclass(frozen=True)
class ImageFile:
    """What there is to choose in an image file.

    Attributes:
        planes: what each plane is called, e.g. ``"z=3"``, or ``""`` for the only one.
        channels: how many there are to choose from, without alpha.
        channel_names: as the file has them, else empty.
    """

    planes: tuple[str, ...] = ("",)
    channels: int = 1
    channel_names: tuple[str, ...] = ()

    @property
    def default_channels(self) -> tuple[int, ...]:
        """Red, green and blue of a colour image, else the first channel."""
        return (0, 1, 2) if self.channels == 3 else DEFAULT_CHANNELS

    @property
    def channel_labels(self) -> list[str]:
        """What the page calls each channel, e.g. "channel 0: DAPI"."""
        names = self.channel_names or ("",) * self.channels
        return [f"channel {n}: {name}" if name else f"channel {n}" for n, name in enumerate(names)]


@dataclass(frozen=True)
class View:
    """One plane of an image file: its number from 0, and one or three channels."""

    path: Path
    plane: int
    channels: tuple[int, ...]


@dataclass(frozen=True)
class Found:
    """What the network found in a view.

    Attributes:
        view: the image.
        candidates: of score ``LOWEST_SCORE`` and more, as the predictor gives them: by score, and
            without overlaps and the objects that its ``max_covered`` leaves out. Objects hide only
            what has a lower score, so that a higher threshold changes none that it leaves.
        display: uint8 (h, w, 3), the image as the page shows it, which may be reduced.
        class_names: by class, from 0.
        pixel_size: (y, x) in micrometres as the file says, or None.
    """

    view: View
    candidates: SparseInstances
    display: np.ndarray
    class_names: tuple[str, ...]
    pixel_size: tuple[float, float] | None

    def objects(self, score: float, min_area: int) -> SparseInstances:
        """Return the objects from a score and a visible area in pixels on, without overlaps."""
        objects = self.candidates.at_least(score)
        return objects.select(objects.areas >= min_area)


class Analyser:
    """Opens images and finds their objects; keeps nothing of them.

    Its methods raise a :class:`UserError` if a file is no image, or too large; the message has the
    file's name but not its folder.

    Args:
        load_predictor: returns a :class:`~unet_sharp_det.prediction.predictor.Predictor` that finds
            objects from ``LOWEST_SCORE`` on; called when it is needed first.
        max_pixels: of an image, however it is read.
    """

    def __init__(self, load_predictor: Callable, max_pixels: int = 100_000_000):
        self._load_predictor = load_predictor
        self.max_pixels = max_pixels

    @functools.cached_property
    def predictor(self):
        return self._load_predictor()

    def load(self) -> None:
        """Load the predictor now rather than in the first :meth:`find`."""
        self.predictor  # noqa: B018 - is loaded

    def inspect(self, path: Path) -> ImageFile:
        """Say what there is to choose in a file."""
        with _without_folder(path):
            # The first channel is there in every file, however many there are.
            planes = self._open(path, (0,))
            self._check_size(planes[0])
        names = tuple(plane.name.removeprefix(path.name).strip("[]") for plane in planes)
        return ImageFile(names, planes[0].total_channels, planes[0].channel_names)

    def display(self, view: View) -> np.ndarray:
        """Return a plane with stretched contrast as uint8 (h, w, 3), reduced if it is large."""
        with _without_folder(view.path):
            return to_display(self._plane(view))

    def find(self, view: View, progress: Callable[[float], None] = lambda fraction: None) -> Found:
        """Find the objects of a plane; ``progress`` is told now and then what fraction is done."""
        with _without_folder(view.path):
            source = self._plane(view)
            total, done = source.shape[0] * source.shape[1], 0

            def count(pixels: int) -> None:
                nonlocal done
                done += pixels
                progress(done / total)

            (candidates,) = self.predictor.predict_many([source], progress=count)
            if isinstance(candidates, UserError):
                raise candidates
            names, display = self.predictor.class_names, to_display(source)
            return Found(view, candidates, display, names, source.pixel_size)

    def write(
        self,
        found: Found,
        objects: SparseInstances,
        pixel_size: tuple[float, float] | None,
        folder: Path,
        names: list[str],
    ) -> list[Path]:
        """Write files of some of the objects that were found, named after the image.

        Args:
            found, objects: the image, and :meth:`Found.objects` of it.
            pixel_size: (y, x) in micrometres, or None.
            folder, names: of the files: which of :data:`unet_sharp_det.outputs.OUTPUTS`.
        """
        path = found.view.path
        with _without_folder(path):
            source = self._plane(found.view)
            context = OutputContext(source, found.class_names, pixel_size)
            return write_outputs(objects, context, folder / (path.stem + source.suffix), names)

    def _open(self, path: Path, channels: tuple[int, ...]) -> list[ImageSource]:
        return open_image(path, ReadOptions(channels=channels, max_pixels=self.max_pixels))

    def _plane(self, view: View) -> ImageSource:
        planes = self._open(view.path, view.channels)
        if not 0 <= view.plane < len(planes):  # It was chosen for the image before this one.
            raise UserError(f"{view.path}: has no plane {view.plane + 1}, only {len(planes)}.")
        self._check_size(planes[view.plane])
        return planes[view.plane]

    def _check_size(self, source: ImageSource) -> None:
        height, width = source.shape
        if height * width > self.max_pixels:
            raise DatasetError(
                f"{source.name}: has {height} x {width} pixels, this page accepts "
                f"{self.max_pixels}. Start it with a larger --max-pixels."
            )


@contextlib.contextmanager
def _without_folder(path: Path) -> Iterator[None]:
    """Name a file in errors as the user knows it, and say what too little memory means."""
    try:
        yield
    except UserError as error:
        raise type(error)(str(error).replace(str(path), path.name)) from error
    except MemoryError as error:
        raise UserError(
            f"{path.name}: the computer's memory doesn't suffice for this image. Use "
            "unet-sharp-det predict with the image as a tiled TIFF."
        ) from error

"""What the app finds out about an image: its planes, its picture, its objects, their numbers.

Results stay in files of the image's folder, so that no other process holds them or unpacks them.
"""

import contextlib
import json
import pickle
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import shapely

from ..errors import DatasetError, UserError
from ..files import unused_name
from ..images.source import DEFAULT_CHANNELS, ImageSource, ReadOptions, open_image
from ..masks.instances import SparseInstances, overlapping_pairs
from ..outputs import OutputContext, output_paths, write_outputs
from ..outputs.object_table import object_columns
from ..outputs.outlines import iterate_outlines, rings_of
from .tiles import write_tiles

_OBJECTS, _FOUND = "objects.json", "found.pickle"
#: Pixels that a drawn outline may be off the middles of its pixels' edges.
_TOLERANCE = 0.4
_MEASURES = ("area_px", "equivalent_diameter_px", "perimeter_px", "eccentricity", "solidity")
_DIGITS = 6

#: Least and greatest value of measures by their names in the table of objects; None: any.
Limits = Mapping[str, tuple[float | None, float | None]]


@dataclass(frozen=True)
class ImageFile:
    """What there is to choose in an image file.

    Attributes:
        planes: what each plane is called, e.g. ``"z=3"``, or ``""`` for the only one.
        projected: the same after a maximum over z, e.g. ``"z=max"``; empty: there is none.
        channels: what each is called, e.g. ``"DAPI"`` or ``"channel 0"``, without alpha.
        shape: (height, width) in pixels.
        pixel_size: (y, x) in micrometres as the file says, or None.
    """

    planes: tuple[str, ...]
    projected: tuple[str, ...]
    channels: tuple[str, ...]
    shape: tuple[int, int]
    pixel_size: tuple[float, float] | None

    @property
    def default_channels(self) -> tuple[int, ...]:
        """Red, green and blue of a colour image, else the first channel."""
        return (0, 1, 2) if len(self.channels) == 3 else DEFAULT_CHANNELS


@dataclass(frozen=True)
class View:
    """One plane of an image file: its number from 0, and one or three channels."""

    path: Path
    plane: int
    channels: tuple[int, ...]
    projected: bool = False  # the maximum over z; the plane is one of those that are left


@dataclass(frozen=True)
class Search:
    """How objects are looked for.

    Attributes:
        model: its name.
        diameter: of the objects in pixels, which sets the scale. None: it is measured.
    """

    model: str
    diameter: float | None = None


@dataclass(frozen=True)
class Found:
    """What the network found in a view.

    Attributes:
        view: the image.
        candidates: of score ``LOWEST_SCORE`` and more, as the predictor gives them: by score, and
            without overlaps and the objects that its ``max_covered`` leaves out. Objects hide only
            what has a lower score, so that a higher threshold changes none that it leaves.
        class_names: by class, from 0.
        measures: by their names in the table of objects, rounded as the page has them.
        scale, diameter: at which the image was seen, and by which median it was chosen, in pixels.
    """

    view: View
    candidates: SparseInstances
    class_names: tuple[str, ...]
    measures: dict[str, np.ndarray]
    scale: float
    diameter: float

    def objects(self, limits: Limits) -> SparseInstances:
        """Return the objects within limits; those of measures that there are not change nothing."""
        kept = np.ones(len(self.candidates), bool)
        for name in limits.keys() & self.measures.keys():
            low, high = limits[name]
            kept &= low is None or self.measures[name] >= low
            kept &= high is None or self.measures[name] <= high
        return self.candidates.select(kept)


class Analyser:
    """Opens images and finds their objects; keeps nothing of them.

    Its methods raise a :class:`UserError` if a file is no image, or too large; the message has the
    file's name but not its folder.

    Args:
        load_predictors: by the name of a model, what returns its
            :class:`~unet_sharp_det.prediction.predictor.Predictor`, which finds objects from
            ``LOWEST_SCORE`` on at a scale "auto"; called when it is needed first.
        max_pixels: of an image, however it is read.
    """

    def __init__(self, load_predictors: Mapping[str, Callable], max_pixels: int = 100_000_000):
        self._load_predictors = load_predictors
        self._predictors: dict = {}
        self.max_pixels = max_pixels

    def load(self, model: str) -> None:
        """Load a model now rather than in the first :meth:`find` that takes it."""
        if model not in self._predictors:
            self._predictors[model] = self._load_predictors[model]()

    def inspect(self, path: Path) -> ImageFile:
        """Say what there is to choose in a file."""
        with _without_folder(path):
            # The first channel is there in every file, however many there are.
            planes = self._open(path, (0,))
            self._check_size(planes[0])
            try:
                projected = self._open(path, (0,), "max") if len(planes) > 1 else []
            except UserError:  # Several axes hold planes, and none of them is z.
                projected = []
        first = planes[0]
        names = first.channel_names or [f"channel {n}" for n in range(first.total_channels)]
        labels = [
            tuple(each.name.removeprefix(path.name).strip("[]") for each in some)
            for some in (planes, projected)
        ]
        return ImageFile(*labels, tuple(names), first.shape, first.pixel_size)

    def render(self, view: View, folder: Path) -> int:
        """Write the picture of a view as tiles; see :func:`write_tiles`."""
        with _without_folder(view.path):
            return write_tiles(self._plane(view), folder)

    def find(
        self,
        view: View,
        search: Search,
        folder: Path,
        progress: Callable[[float], None] = lambda fraction: None,
    ) -> int:
        """Find the objects of a plane, write them to a folder, and return how many there are.

        ``progress`` is told now and then what fraction is done.
        """
        with _without_folder(view.path):
            source, done = self._plane(view), 0

            def count(pixels: int) -> None:
                nonlocal done
                done += pixels
                progress(done / (source.shape[0] * source.shape[1]))

            self.load(search.model)
            predictor = self._predictors[search.model]
            candidates, *seen = predictor.find(source, count, diameter=search.diameter)
            measures = _measure(candidates, source, predictor.class_names)
            found = Found(view, candidates, predictor.class_names, measures, *seen)
        (folder / _FOUND).write_bytes(pickle.dumps(found))
        (folder / _OBJECTS).write_text(json.dumps(_to_page(found)))
        return len(candidates)

    def compare(self, folder: Path, other: Path) -> list[tuple[int, int]]:
        """Return the pairs of what two searches found whose IoU is above .5.

        Objects of a search do not overlap, so each is in one pair at most, whatever the limits.
        """
        mine, others = (_read(each).candidates for each in (folder, other))
        both = SparseInstances.concatenate(mine.shape, [mine, others])
        areas, pairs = both.areas, []
        for i, j in overlapping_pairs(both.boxes).tolist():
            if i < len(mine) <= j:
                shared = np.count_nonzero(np.logical_and(*both.shared(i, j)))
                if 2 * shared > areas[i] + areas[j] - shared:
                    pairs.append((i, j - len(mine)))
        return pairs

    def write(
        self,
        folder: Path,
        limits: Limits,
        pixel_size: tuple[float, float] | None,
        stem: Path,
        names: list[str],
    ) -> dict:
        """Write files of the objects within limits; return what the summary says of the image.

        Args:
            folder: where :meth:`find` wrote.
            pixel_size: (y, x) in micrometres. None: as the file says.
            stem: of the files, without the plane; a number comes behind both where another
                image in this folder has such files.
            names: which of :data:`unet_sharp_det.outputs.OUTPUTS`.
        """
        found = _read(folder)
        objects = found.objects(limits)
        with _without_folder(found.view.path):
            source = self._plane(found.view)
            context = OutputContext(source, found.class_names, pixel_size or source.pixel_size)
            stem = _unused(stem.with_name(stem.name + source.suffix), names)
            write_outputs(objects, context, stem, names)
        areas = objects.areas
        mean, median = (f(areas) if len(areas) else None for f in (np.mean, np.median))
        return {
            "image": stem.name,
            "height": source.shape[0],
            "width": source.shape[1],
            "objects": len(objects),
            "mean_area_px": mean,
            "median_area_px": median,
            "coverage": areas.sum() / (source.shape[0] * source.shape[1]),
            "scale": found.scale,
        }

    def _open(self, path: Path, channels: tuple[int, ...], planes="all") -> list[ImageSource]:
        options = ReadOptions(channels=channels, planes=planes, max_pixels=self.max_pixels)
        return open_image(path, options)

    def _plane(self, view: View) -> ImageSource:
        planes = self._open(view.path, view.channels, "max" if view.projected else "all")
        if view.plane >= len(planes):
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


def _measure(objects: SparseInstances, source: ImageSource, class_names) -> dict[str, np.ndarray]:
    columns = object_columns(objects, OutputContext(source, class_names))
    chosen = ["score", *_MEASURES, *(name for name in columns if "intensity_mean" in name)]
    return {
        name: np.array([float(f"{value:.{_DIGITS}g}") for value in columns[name]])
        for name in chosen
    }


def _unused(stem: Path, names: list[str]) -> Path:
    """Return a stem none of whose files is there, in whatever case (some systems tell none)."""
    taken = {path.name.casefold() for path in stem.parent.iterdir()}

    def is_used(name: str) -> bool:
        return any(
            path.name.casefold() in taken for path in output_paths(stem.parent / name, names)
        )

    return stem.with_name(unused_name(stem.name, is_used))


def _to_page(found: Found) -> dict:
    """Return found objects as the page takes them: measures by column, and drawn outlines."""
    return {
        "shape": found.candidates.shape,
        "scale": found.scale,
        "diameter": found.diameter,
        "class_names": found.class_names,
        "classes": found.candidates.classes.tolist(),
        "boxes": found.candidates.boxes.tolist(),
        "measures": {name: values.tolist() for name, values in found.measures.items()},
        "outlines": [
            [_without_stairs(ring) for ring in rings_of(outline)]
            for outline in iterate_outlines(found.candidates)
        ],
    }


def _without_stairs(ring: np.ndarray) -> list[float]:
    """Return a line through the middles of the edges of pixels, as x, y, x, y, ..."""
    corners = shapely.get_coordinates(shapely.segmentize(shapely.LinearRing(ring), 1))
    middles = shapely.LinearRing((corners[:-1] + corners[1:]) / 2)
    return shapely.get_coordinates(shapely.simplify(middles, _TOLERANCE))[:-1].ravel().tolist()


def _read(folder: Path) -> Found:
    try:
        return pickle.loads((folder / _FOUND).read_bytes())
    except FileNotFoundError:
        raise UserError("An image was removed, or shown otherwise, meanwhile. Try again.") from None


def objects_file(folder: Path) -> Path:
    """Return the json of a search's objects, for the page; :meth:`Analyser.find` wrote it."""
    return folder / _OBJECTS


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

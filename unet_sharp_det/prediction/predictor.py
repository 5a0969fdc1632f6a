"""From images of any size to their objects, by a trained model."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from detectron2.modeling import Backbone
from torch import nn

from ..checkpoints.trained_model import TrainedModel, load_trained_model, open_trained_model
from ..data.augmentation import ScaleBy, build_test_resize
from ..errors import ConfigError, UserError
from ..images.intensity import PreparedImage, prepare
from ..images.source import ImageSource, from_array, open_image
from ..masks.instances import SparseInstances
from ..runtime import accelerate
from .detector import Detector
from .options import PredictionOptions
from .segmenter import Segmenter
from .tile_grid import Tile, alignment_of, tile_grid

Image = np.ndarray | str | Path | ImageSource


class Predictor:
    """Finds the objects in microscopy images; see :meth:`from_checkpoint`.

    Images up to ``tile_size`` are seen as a whole and, where several of them are of one size,
    in batches. Larger ones are cut into overlapping tiles, of which a few are in memory at a time.
    The intensities of an image are scaled as a whole before it is cut. When a GPU's memory
    doesn't suffice, batches and then tiles are halved.

    Example::

        predict = Predictor.from_checkpoint("output/model_best.pth")
        objects = predict("cells.tif")        # SparseInstances: boxes, masks, scores
        labels = objects.label_map()          # int32 (H, W)
    """

    def __init__(
        self,
        model: nn.Module,
        resize: T.Augmentation,
        *,
        image_format: str = "RGB",
        stretch_contrast: bool = False,
        class_names: Sequence[str] = ("object",),
        options: PredictionOptions | None = None,
    ):
        """
        Args:
            model: a ``GeneralizedRCNN`` or ``PanopticFPN`` with masks, or a ``SemanticSegmentor``
                with ``UNetSharpHead``. It stays as it is: a copy in eval mode is used.
            resize: what images go through in testing, e.g. ``ScaleBy``.
            image_format: ``INPUT.FORMAT`` of the training.
            stretch_contrast: ``INPUT.STRETCH_CONTRAST`` of the training.
            class_names: of the classes 0, 1, ...
            options: see :class:`PredictionOptions`.

        Raises:
            ConfigError: the model finds no objects, or an option is out of its range.
        """
        self.options = options or PredictionOptions()
        self.image_format = image_format
        self.stretch_contrast = stretch_contrast
        self.class_names = tuple(class_names)
        resize = _rescaled(resize, self.options.scale)
        model = accelerate(model, precision=self.options.precision)
        self._whole = _finder(model, resize, self.options.score_threshold)
        resize = _resize_of_tiles(resize, self.options.tile_size)
        self._tiled = _finder(model, resize, self.options.score_threshold)
        self._least_score = _least_score(self._whole, self.options.score_threshold)
        self._alignment = _alignment(resize, model.backbone)

    @classmethod
    def from_config(cls, cfg: CfgNode, options: PredictionOptions | None = None, **loading):
        """Build the model that ``cfg`` describes and load ``MODEL.WEIGHTS``.

        Args:
            loading: of :func:`load_trained_model`: ``trust_pickle``.

        Raises:
            ConfigError, CheckpointError: the config or the weights are unusable.
        """
        return cls._of(load_trained_model(cfg, **loading), options)

    @classmethod
    def from_checkpoint(
        cls,
        path,
        *,
        config_file=None,
        config_opts: Sequence[str] = (),
        device: str | None = None,
        trust_pickle: bool = False,
        options: PredictionOptions | None = None,
    ) -> "Predictor":
        """Load a trained model.

        Args:
            path: a checkpoint, .pth or .safetensors.
            config_file: YAML of its training. None: the one inside of a .safetensors file, else
                ``config.yaml`` beside the checkpoint.
            config_opts: keys and values in turn that change the config.
            device: e.g. ``cpu`` or ``cuda:1``. None: ``config_file``'s or ``config_opts``';
                without them the first GPU, or the CPU without one.
            trust_pickle: whether to load a file that can run code; only for files of your own.
            options: see :class:`PredictionOptions`.

        Raises:
            ConfigError, CheckpointError: the config or the weights are missing or unusable.
        """
        trained = open_trained_model(
            path, config_file, config_opts, device=device, trust_pickle=trust_pickle
        )
        return cls._of(trained, options)

    @classmethod
    def _of(cls, trained: TrainedModel, options: PredictionOptions | None) -> "Predictor":
        cfg = trained.cfg
        return cls(
            trained.model,
            build_test_resize(cfg.INPUT),
            image_format=cfg.INPUT.FORMAT,
            stretch_contrast=cfg.INPUT.STRETCH_CONTRAST,
            class_names=cfg.MODEL.CLASS_NAMES,
            options=options,
        )

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self._whole.model.device

    def __call__(self, image: Image) -> SparseInstances:
        """Find the objects of one image.

        Args:
            image: an array (H, W), (H, W, 1) or (H, W, 3) in RGB of any numeric type, the path of
                a file of one plane, or an opened image.

        Returns:
            sorted by score, without overlaps.

        Raises:
            UserError: the image cannot be read or used.
        """
        (found,) = self.predict_many([image])
        if isinstance(found, UserError):
            raise found
        return found

    def label_map(self, image: Image) -> np.ndarray:
        """Return int32 (H, W): 0 is the background, 1, 2, ... the objects by descending score."""
        return self(image).label_map()

    def predict_many(
        self, images: Sequence[Image], progress: Callable[[int], None] = lambda pixels: None
    ) -> list[SparseInstances | UserError]:
        """Find the objects of several images; those of one size go through the network together.

        Args:
            images: as :meth:`__call__` takes them.
            progress: called with the number of pixels that were done since the last call.

        Returns:
            of each image what :meth:`__call__` returns or, of a bad one, the error.
        """
        results: list = [None] * len(images)
        waiting: dict[tuple, list[tuple[int, np.ndarray]]] = {}

        def run(batch: list[tuple[int, np.ndarray]]) -> None:
            found = self._find_whole([window for _, window in batch])
            for (index, window), instances in zip(batch, found, strict=True):
                results[index] = instances
                progress(window.shape[0] * window.shape[1])

        for index, image in enumerate(images):
            try:
                prepared = self._prepare(image)
                if max(prepared.shape) > self.options.tile_size:
                    results[index] = self._find_in_tiles(prepared, self.options, progress)
                    continue
                window = prepared.window(*(slice(0, side) for side in prepared.shape))
            except UserError as error:
                results[index] = error
                continue
            batch = waiting.setdefault(window.shape, [])
            batch.append((index, window))
            if len(batch) == self.options.batch_of(window.shape):
                run(waiting.pop(window.shape))
        for batch in waiting.values():
            run(batch)
        return [each if isinstance(each, UserError) else self._shown(each) for each in results]

    def _shown(self, found: SparseInstances) -> SparseInstances:
        found = found.at_least(self._least_score)
        return found.without_overlaps(self.options.min_area, self.options.max_covered)

    def _prepare(self, image: Image) -> PreparedImage:
        if isinstance(image, np.ndarray):
            image = from_array(image)
        elif not isinstance(image, ImageSource):
            planes = open_image(image)
            if len(planes) != 1:
                raise UserError(
                    f"{image}: has {len(planes)} planes. Open them by open_image, or "
                    "choose one by ReadOptions(planes=...)."
                )
            image = planes[0]
        return prepare(image, self.image_format, self.stretch_contrast)

    def _find_whole(self, windows: list[np.ndarray]) -> list[SparseInstances]:
        """Find the objects of images of one size, each of them a tile of its own."""
        shape = windows[0].shape[:2]
        (tile,) = tile_grid(shape, max(shape), 0)
        try:
            return self._whole.find(windows, [tile] * len(windows), shape)
        except torch.OutOfMemoryError:
            pass  # What follows needs the memory that the exception holds.
        if len(windows) > 1:
            half = len(windows) // 2
            return self._find_whole(windows[:half]) + self._find_whole(windows[half:])
        smaller = self.options.halved(max(shape), self._alignment)
        return [self._find_in_tiles(_Decoded(windows[0]), smaller, lambda pixels: None)]

    def _find_in_tiles(
        self, image: PreparedImage, options: PredictionOptions, progress: Callable[[int], None]
    ) -> SparseInstances:
        grid = tile_grid(image.shape, options.tile_size, options.tile_overlap, self._alignment)
        tiles, parts = [], []
        try:
            for batch in _batches_of_one_shape(grid, options):
                windows = [image.window(tile.rows, tile.columns) for tile in batch]
                tiles += batch
                parts += self._tiled.find(windows, batch, image.shape)
                progress(sum(tile.core_area for tile in batch))
        except torch.OutOfMemoryError:
            pass  # What follows needs the memory that the exception holds.
        else:
            return self._tiled.join(tiles, parts, image.shape)
        progress(-sum(tile.core_area for tile in tiles[: len(parts)]))
        smaller = options.halved(options.tile_size, self._alignment)
        return self._find_in_tiles(image, smaller, progress)


@dataclass(frozen=True)
class _Decoded:
    """A window as an image of its own."""

    pixels: np.ndarray

    @property
    def shape(self) -> tuple[int, int]:
        return self.pixels.shape[:2]

    def window(self, rows: slice, columns: slice) -> np.ndarray:
        return self.pixels[rows, columns]


def _finder(model: nn.Module, resize: T.Augmentation, score_threshold: float):
    if hasattr(model, "roi_heads"):
        return Detector(model, resize, score_threshold)
    return Segmenter(model, resize)


def _least_score(finder: Detector | Segmenter, threshold: float) -> float:
    """The threshold for what was found; a semantic model has decided up to .5 by itself."""
    return 0.0 if isinstance(finder, Segmenter) and threshold <= 0.5 else threshold


def _rescaled(resize: T.Augmentation, factor: float) -> T.Augmentation:
    if factor == 1:
        return resize
    if isinstance(resize, ScaleBy):
        return ScaleBy([factor * each for each in resize.factors], resize.max_size)
    if isinstance(resize, T.ResizeShortestEdge):
        sides = [round(factor * side) for side in resize.short_edge_length]  # one, in testing
        return T.ResizeShortestEdge(sides, round(factor * resize.max_size), "choice")
    raise ConfigError(f"scale is {factor}, but {type(resize).__name__} cannot be scaled: give 1.")


def _resize_of_tiles(resize: T.Augmentation, tile_size: int) -> T.Augmentation:
    """What tiles are resized by: all by one factor, that of a whole tile."""
    if not isinstance(resize, T.ResizeShortestEdge):
        return resize
    side = min(*resize.short_edge_length, resize.max_size)
    return ScaleBy([side / tile_size])


def _alignment(resize: T.Augmentation, backbone: Backbone) -> int:
    """Pixels of the image whose multiples tiles begin at, so that strides see what they would."""
    if not isinstance(resize, ScaleBy):
        return 1
    strides = [shape.stride for shape in backbone.output_shape().values()]
    return alignment_of(resize.factors[0], max(backbone.size_divisibility, *strides))


def _batches_of_one_shape(
    tiles: Sequence[Tile], options: PredictionOptions
) -> Iterator[list[Tile]]:
    by_shape: dict[tuple[int, int], list[Tile]] = {}
    for tile in tiles:
        by_shape.setdefault(tile.shape, []).append(tile)
    for shape, of_shape in by_shape.items():
        size = options.batch_of(shape)
        for start in range(0, len(of_shape), size):
            yield of_shape[start : start + size]

"""From images of any size to their objects, by a trained model."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from detectron2.data import transforms as T
from torch import nn

from ..checkpoints.trained_model import open_trained_model
from ..data.augmentation import ScaleBy, build_test_resize
from ..errors import UserError
from ..images.intensity import PreparedImage, prepare
from ..images.source import ImageSource, ReadOptions, from_array, open_image
from ..masks.instances import SparseInstances
from ..modeling.test_time_augmentation import VIEWS
from ..modeling.watershed_segmentor import WatershedSegmentor
from ..runtime import accelerate
from ..runtime.memory import give_back_freed_memory
from .detector import Detector
from .fitting_scale import DSB2018_DIAMETER, find_at_fitting_scale
from .options import AUTO, PredictionOptions
from .segmenter import Segmenter, WatershedSegmenter
from .tile_grid import Tile, alignment_of, batches_of_one_shape, part_background, tile_grid

logger = logging.getLogger(__name__)

# The objects of each block live on between the freed maps of its network: without trims, an image
# of 8,192 x 8,192 pixels took 2.3 GiB instead of 1.7.
_BLOCKS_BETWEEN_TRIMS = 16

Image = np.ndarray | str | Path | ImageSource


class Predictor:
    """Finds the objects in microscopy images; see :meth:`from_checkpoint`.

    Images up to ``tile_size`` are seen as a whole and, where several of them are of one size,
    in batches. Larger ones are cut into overlapping tiles, of which a few are in memory at a time;
    their intensities are scaled before. When a GPU's memory doesn't suffice, batches and then tiles
    are halved.

    Example::

        predict = Predictor.from_checkpoint("nuclei")     # or a file, e.g. "output/model_best.pth"
        objects = predict("cells.tif")        # SparseInstances: boxes, masks, scores
        labels = objects.label_map()          # int32 (H, W)
    """

    def __init__(
        self,
        model: nn.Module,
        resize: ScaleBy | T.ResizeShortestEdge,
        *,
        image_format: str = "RGB",
        stretch_contrast: bool = False,
        class_names: Sequence[str] = ("object",),
        pixel_size: float = 0.0,
        diameter: float = 0.0,
        own: tuple[float, int] = (0.5, 0),
        options: PredictionOptions | None = None,
    ):
        """
        Args:
            model: a ``GeneralizedRCNN`` or ``PanopticFPN`` with masks, a ``WatershedSegmentor``, or
                a ``SemanticSegmentor`` with ``UNetSharpHead``. It stays as it is: a copy in eval
                mode is used.
            resize: what images go through in testing; by its factor for the whole image, tiles too.
            image_format, stretch_contrast: ``INPUT.FORMAT`` and so on of the training.
            class_names: of the classes 0, 1, ...
            pixel_size: in micrometres, of the images that the model is made for; 0: unknown.
            diameter: median of the training's objects, in pixels; 0: unknown, that of DSB2018.
            own: the model's score threshold and least area, see :class:`PredictionOptions`.

        Raises:
            ConfigError: the model finds no objects, or an option is out of its range.
        """
        options = options or PredictionOptions()
        if options.scale is None and not pixel_size:
            options = replace(options, scale=1.0)
        self.options = options.completed(*own)
        self.pixel_size = pixel_size
        self.diameter = diameter or DSB2018_DIAMETER
        self._own = own
        self._told: set[float | None] = set()  # pixel sizes whose scales were logged
        self.image_format = image_format
        self.stretch_contrast = stretch_contrast
        self.class_names = tuple(class_names)
        model = accelerate(model, precision=self.options.precision)
        views = VIEWS if self.options.tta else VIEWS[:1]
        if hasattr(model, "roi_heads"):
            kind = Detector
        else:
            kind = WatershedSegmenter if isinstance(model, WatershedSegmentor) else Segmenter
        self._finder = kind(model, self.options.score_threshold, views)
        self._resize = resize
        self._blocks = 0  # that the network saw
        self._channels = len(model.pixel_mean)
        strides = [shape.stride for shape in model.backbone.output_shape().values()]
        self._divisibility = max(model.backbone.size_divisibility, *strides)

    @classmethod
    def from_checkpoint(cls, path, *, options: PredictionOptions | None = None, **opening):
        """Load a trained model.

        Args:
            path: a checkpoint, .pth or .safetensors, or the name of a model of the package.
            opening: ``config_file``, ``config_opts``, ``device`` and ``trust_pickle``, as
                :func:`~unet_sharp_det.checkpoints.trained_model.open_trained_model` takes them.

        Raises:
            ConfigError, CheckpointError: the config or the weights are missing or unusable.
        """
        trained = open_trained_model(path, **opening)
        cfg = trained.cfg
        own = cfg.TEST.INSTANCES
        return cls(
            trained.model,
            build_test_resize(cfg.INPUT),
            image_format=cfg.INPUT.FORMAT,
            stretch_contrast=cfg.INPUT.STRETCH_CONTRAST,
            class_names=cfg.MODEL.CLASS_NAMES,
            pixel_size=cfg.INPUT.PIXEL_SIZE,
            diameter=cfg.INPUT.DIAMETER,
            own=(own.SCORE_THRESHOLD, own.MIN_AREA),
            options=options,
        )

    @property
    def device(self) -> torch.device:
        """Where the network runs."""
        return self._finder.model.device

    @property
    def own_score_threshold(self) -> float:
        """The least score of objects that the model's config has, whatever the options say."""
        return self._own[0]

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
        return self.find(image)[0]

    def find(
        self,
        image: Image,
        progress: Callable[[int], None] = lambda pixels: None,
        diameter: float | None = None,
    ) -> tuple[SparseInstances, float, float]:
        """Find the objects of one image as :meth:`__call__` does, and say how it was seen.

        Args:
            progress: see :meth:`predict_many`.
            diameter: median of the objects in pixels, for a ``scale`` "auto". None: it is measured.

        Returns:
            the objects; the scale; and the median diameter by which "auto" chose it, else 0.
        """
        source = self._open(image)
        if self.options.scale == AUTO:
            return self._find_at_fitting_scale(source, progress, diameter)
        options = self._options_of(source)
        return self._find_one(source, options, progress), options.scale, 0.0

    def predict_many(
        self, images: Sequence[Image], progress: Callable[[int], None] = lambda pixels: None
    ) -> list[SparseInstances | UserError]:
        """Return of each image what :meth:`__call__` returns or, of a bad one, the error.

        Args:
            progress: called with the number of pixels that were done since the last call.
        """
        results: list = [None] * len(images)
        waiting: dict[tuple, list[tuple[int, PreparedImage, np.ndarray]]] = {}

        def run(batch: list[tuple[int, PreparedImage, np.ndarray]], options) -> None:
            indices, wholes, windows = zip(*batch, strict=True)
            found = self._find_whole(wholes, windows, options)
            for index, each in zip(indices, found, strict=True):
                results[index] = self._select(each, options)
                progress(math.prod(each.shape))

        for index, image in enumerate(images):
            try:
                source = self._open(image)
                options = self._options_of(source)
                if options.scale == AUTO or max(source.shape) > options.tile_size:
                    results[index], *_ = self.find(source, progress)
                    continue
                prepared = self._prepare(source, options)
                window = prepared.window(*map(slice, prepared.shape))
            except UserError as error:
                results[index] = error
                continue
            key = window.shape, prepared.shape, prepared.factor, options
            batch = waiting.setdefault(key, [])
            batch.append((index, prepared, window))
            if len(batch) == options.batch_of(window.shape):
                run(waiting.pop(key), options)
        for (*_, options), batch in waiting.items():
            run(batch, options)
        return results

    def _find_one(
        self, source: ImageSource, options: PredictionOptions, progress: Callable[[int], None]
    ) -> SparseInstances:
        """Find the objects of an image that is not one of a batch."""
        image = self._prepare(source, options)
        if max(image.shape) > options.tile_size:
            found = self._find_in_tiles(image, options, progress)
        else:
            window = image.window(*map(slice, image.shape))
            (found,) = self._find_whole([image], [window], options)
            progress(math.prod(image.shape))
        return self._select(found, options)

    def _find_at_fitting_scale(
        self, image: ImageSource, progress: Callable[[int], None], diameter: float | None
    ) -> tuple[SparseInstances, float, float]:
        left = math.prod(image.shape)

        def look(scale: float, share: float) -> SparseInstances:
            def advance(pixels: int) -> None:
                nonlocal left
                left -= int(share * pixels)
                progress(int(share * pixels))

            options = self.options.at_scale(scale).completed(*self._own)
            return self._find_one(image, options, advance)

        found, scale, median = find_at_fitting_scale(
            look, self.diameter, self.own_score_threshold, diameter
        )
        progress(left)
        if scale != 1:
            logger.info(
                f"{image.where}: objects of about {median:.0f} pixels: the scale is {scale:g}."
            )
        return found, scale, median

    def _options_of(self, image: ImageSource) -> PredictionOptions:
        """Return the options, completed for an image by the scale that its pixel size asks for."""
        if self.options.scale is not None:
            return self.options
        size = image.pixel_size and math.sqrt(math.prod(image.pixel_size))
        scale = float(f"{size / self.pixel_size:.3g}") if size else 1.0
        if size not in self._told:
            self._told.add(size)
            known = f"{size:.4g} micrometres" if size else "an unknown size (say --pixel-size)"
            logger.info(
                f"{image.where}: pixels have {known}, the model's {self.pixel_size:g}: the scale "
                f"is {scale:g}."
            )
        return replace(self.options, scale=scale).completed(*self._own)

    def _select(self, found: SparseInstances, options: PredictionOptions) -> SparseInstances:
        found = found.at_least(self._finder.least_score)
        found = found.without_holes() if options.clean else found
        found = found.without_overlaps(options.min_area, options.max_covered)
        if not options.clean:
            return found
        found = found.in_one_piece()
        return found.select(found.areas >= options.min_area)

    def _open(self, image: Image) -> ImageSource:
        sees_all = self.image_format == "CHANNELS"
        if isinstance(image, np.ndarray):
            image = from_array(image, all_channels=sees_all)
        elif not isinstance(image, ImageSource):
            planes = open_image(image, ReadOptions(channels=(0,)) if sees_all else None)
            if len(planes) != 1:
                raise UserError(
                    f"{image}: has {len(planes)} planes. Open them by open_image, or choose one by "
                    "ReadOptions(planes=...)."
                )
            image = planes[0]
        if sees_all and image.total_channels != self._channels:
            raise UserError(
                f"{image.where}: has {image.total_channels} channels, but the model sees "
                f"{self._channels}. Save those as a file."
            )
        return image

    def _prepare(self, image: ImageSource, options: PredictionOptions) -> PreparedImage:
        """Return an image at the level that its scale needs."""
        factor = image.reduction_for(options.scale)
        return prepare(image, self.image_format, self.stretch_contrast, factor)

    def _scale(self, shape: tuple[int, int], options: PredictionOptions) -> float:
        """The factor by which the network sees an image of (height, width) larger."""
        resize = self._resize
        if isinstance(resize, ScaleBy):
            factor = resize.factors[0]
        else:
            factor = resize.short_edge_length[0] / min(shape)
        return options.scale * min(factor, resize.max_size / max(shape))

    def _alignment(self, image: PreparedImage, scale: float) -> int:
        """Return the image pixels at whose multiples tiles begin."""
        return math.lcm(alignment_of(scale, self._divisibility), image.factor)

    def _find_whole(
        self,
        images: Sequence[PreparedImage],
        windows: Sequence[np.ndarray],
        options: PredictionOptions,
    ) -> list[SparseInstances]:
        """Find the objects of images of one size, each of them a tile of its own."""
        shape = images[0].shape
        (tile,) = tile_grid(shape, max(shape), 0)
        scale = self._scale(shape, options)
        try:
            return self._finder.find(windows, [tile] * len(windows), shape, scale, images[0].factor)
        except torch.OutOfMemoryError:
            pass  # What follows needs the memory that the exception holds.
        if len(windows) > 1:
            half = len(windows) // 2
            first = self._find_whole(images[:half], windows[:half], options)
            return first + self._find_whole(images[half:], windows[half:], options)
        smaller = options.halved(max(shape), self._alignment(images[0], scale))
        return [self._find_in_tiles(images[0], smaller)]

    def find_blocks(
        self, image: PreparedImage, blocks: Sequence[Sequence[Tile]], scale: float
    ) -> Iterator[list[SparseInstances]]:
        """Yield what :meth:`find_block` returns of each block; who has others find it replaces this
        method of a copy."""
        return (self.find_block(image, block, scale) for block in blocks)

    def find_block(
        self, image: PreparedImage, block: Sequence[Tile], scale: float
    ) -> list[SparseInstances]:
        """Return what is found in each of some tiles of one size, in the image's coordinates, where
        the network sees the image larger by the factor ``scale``.

        The network does not see tiles of a single colour, as scanners leave them around the tissue:
        they have no objects.
        """
        found = [SparseInstances.empty(image.shape)] * len(block)
        windows = [image.window(tile.rows, tile.columns) for tile in block]
        seen = [k for k, window in enumerate(windows) if (window != window[0, 0]).any()]
        if seen:
            chosen = [windows[k] for k in seen], [block[k] for k in seen]
            results = self._finder.find(*chosen, image.shape, scale, image.factor)
            for k, result in zip(seen, results, strict=True):
                found[k] = result
            self._blocks += 1
            if self._blocks % _BLOCKS_BETWEEN_TRIMS == 0:
                give_back_freed_memory()
        return found

    def _find_in_tiles(
        self,
        image: PreparedImage,
        options: PredictionOptions,
        progress: Callable[[int], None] = lambda pixels: None,
    ) -> SparseInstances:
        scale = self._scale(image.shape, options)
        alignment = self._alignment(image, scale)
        overlap = options.overlap_at(scale)
        grid = tile_grid(image.shape, options.tile_size, overlap, alignment)
        seen, tiles = part_background(grid, image.source)
        parts = [SparseInstances.empty(image.shape)] * len(tiles)
        progress(sum(tile.core_area for tile in tiles))
        blocks = list(batches_of_one_shape(seen, options.batch_of))
        try:
            for block, found in zip(blocks, self.find_blocks(image, blocks, scale), strict=True):
                tiles += block
                parts += found
                progress(sum(tile.core_area for tile in block))
        except torch.OutOfMemoryError:
            pass  # What follows needs the memory that the exception holds.
        else:
            return self._finder.join(tiles, parts, image.shape, scale)
        progress(-sum(tile.core_area for tile in tiles[: len(parts)]))
        smaller = options.halved(options.tile_size, alignment)
        return self._find_in_tiles(image, smaller, progress)

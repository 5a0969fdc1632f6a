"""What a run does with an image file: opening its planes, finding objects, writing outputs."""

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import UserError
from ..images.source import (
    DEFAULT_CHANNELS,
    ChannelsError,
    ImageSource,
    ReadOptions,
    open_image,
    size_in_header,
)
from ..outputs import OutputContext, write_outputs
from .inputs import InputFile
from .units import Outline

if TYPE_CHECKING:
    from ..masks.instances import SparseInstances

# Options that change how long it takes and what is refused, but not what is found.
_OF_NO_EFFECT = {"batch_size", "max_pixels"}
_BATCHES_AT_ONCE = 4

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ImageWork:
    """The work on images; see :func:`.predict_files` for the attributes."""

    predictor: object
    read_options: ReadOptions
    pixel_size: tuple[float, float] | None

    @property
    def settings(self) -> dict[str, object]:
        """What outputs depend on, by the names of the options."""
        found = {
            "image_format": self.predictor.image_format,
            "stretch_contrast": self.predictor.stretch_contrast,
            "class_names": list(self.predictor.class_names),
            "model_pixel_size": self.predictor.pixel_size,
            **asdict(self.predictor.options),
            **asdict(self.read_options),
            "pixel_size": self.pixel_size,
        }
        return {name: value for name, value in found.items() if name not in _OF_NO_EFFECT}

    @property
    def at_once(self) -> int:
        """How many images are opened together, so that some are of one size."""
        return _BATCHES_AT_ONCE * self.predictor.options.batch_size

    def outline(self, file: InputFile) -> dict[str, Outline]:
        """Return what the planes of a file are, without decoding it where its header tells."""
        size = size_in_header(file.path)
        if size is not None:
            return {"": Outline(size, lambda: self.open(file)[""])}
        sources = self.open(file)
        return {
            plane: Outline(source.shape, functools.partial(sources.get, plane))
            for plane, source in sources.items()
        }

    def open(self, file: InputFile) -> dict[str, ImageSource]:
        """Return the planes of a file, each once however often ``planes`` names it."""
        first = replace(self.read_options, channels=DEFAULT_CHANNELS)
        sees_all = self.predictor.image_format == "CHANNELS"
        if sees_all and self.read_options.channels is not None:
            raise UserError("--channels: the model sees all channels of a file. Leave it out.")
        try:
            sources = open_image(file.path, first if sees_all else self.read_options)
        except ChannelsError as error:
            logger.warning(f"{error} Now channel 0 alone is predicted.")
            sources = open_image(file.path, first)
        count = max(source.series_count for source in sources)
        if count > 1 and self.read_options.series == 0:
            logger.warning(
                f"{file.name}: has {count} series, of which only the first is predicted. Choose "
                f"another with --series, from 0 to {count - 1}."
            )
        return {
            source.suffix: replace(source, pixel_size=self.pixel_size or source.pixel_size)
            for source in sources
        }

    def find(
        self, sources: Sequence[ImageSource], progress: Callable[[int], None]
    ) -> list["SparseInstances | Exception"]:
        """Return the objects, or the error, of each image."""
        return self.predictor.predict_many(sources, progress)

    def write(
        self,
        source: ImageSource,
        found: "SparseInstances",
        stem: Path,
        outputs: Mapping[str, Path],
    ) -> np.ndarray:
        """Write outputs, and return the areas of the objects."""
        context = OutputContext(source, self.predictor.class_names, source.pixel_size)
        write_outputs(found, context, stem, list(outputs))
        return found.areas

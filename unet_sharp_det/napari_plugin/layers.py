"""Image layers of napari as planes that are read window by window."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..images.planes import PixelArray, meant_values
from ..images.source import ImageSource, ReadOptions, planes_of

_STACK_LETTERS = "ABDEFGHTZ"  # of the axes before Y and X, the last of which is Z


@dataclass(frozen=True)
class LayerImage:
    """A layer's array, and which axis of it is which.

    Attributes:
        layer: an image layer; of a pyramid the finest level is read.
        channel_axis: of its data, or None. Colours (``layer.rgb``) are no such axis.
    """

    layer: object
    channel_axis: int | None = None

    @property
    def pixels(self):
        """The array: of NumPy, Dask or Zarr, sliced but never read as a whole."""
        return self.layer.data[0] if self.layer.multiscale else self.layer.data

    @property
    def letters(self) -> str:
        has_channels = self.channel_axis is not None
        stacked = self.layer.ndim - 2 - has_channels
        letters = [*_STACK_LETTERS[len(_STACK_LETTERS) - stacked :], "Y", "X"]
        if has_channels:
            letters.insert(self.channel_axis, "C")
        return "".join(letters) + ("S" if self.layer.rgb else "")

    @property
    def channels(self) -> int:
        """How many channels there are to choose from."""
        if self.layer.rgb:
            return 3
        return 1 if self.channel_axis is None else self.pixels.shape[self.channel_axis]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a label map of the layer, which has one channel."""
        shape = list(self.pixels.shape[: self.layer.ndim])
        if self.channel_axis is not None:
            shape[self.channel_axis] = 1
        return tuple(shape)

    @property
    def pixel_size(self) -> tuple[float, float] | None:
        return pixel_size(self.layer.scale, self.layer.units)

    def planes(self, channel: int | None = None) -> list[ImageSource]:
        """Return each plane of the stack.

        Args:
            channel: that the model sees. None: all, of which there must be one or three.

        Raises:
            DatasetError: the pixels are no real numbers.
            ChannelsError: there are other than one or three channels, and none is chosen.
        """
        pixels, name = self.pixels, self.layer.name
        dtype, to_values = meant_values(np.dtype(pixels.dtype), name)
        image = PixelArray(
            pixels=pixels,
            letters=self.letters,
            shape=tuple(pixels.shape),
            dtype=dtype,
            colours=3 if self.layer.rgb else 1,
            pixel_size=self.pixel_size,
            to_values=to_values,
        )
        channels = None if channel is None else (channel,)
        return planes_of(image, name, name, ReadOptions(channels=channels))

    def index(self, plane: ImageSource) -> tuple[int, ...]:
        """Return where a plane lies in an array of :attr:`shape`."""
        axes = self.letters.partition("Y")[0].lower()
        return tuple(plane.place.get(letter, 0) for letter in axes)

    def position(self) -> dict[str, object]:
        """Return what puts a label map of :attr:`shape` where the layer is, for napari.

        The label map has one place on the channel axis, as long as all of the layer's channels:
        it is seen on each of them.
        """
        layer = self.layer
        scale, translate = np.array(layer.scale), np.array(layer.translate)
        if self.channel_axis is not None:
            translate[self.channel_axis] += scale[self.channel_axis] * (self.channels - 1) / 2
            scale[self.channel_axis] *= self.channels
        same = ("rotate", "shear", "affine", "units", "axis_labels")
        return {"scale": scale, "translate": translate} | {k: getattr(layer, k) for k in same}


def pixel_size(scale: Sequence[float], units: Sequence) -> tuple[float, float] | None:
    """Return (y, x) in micrometres, or None if a layer's units, of pint, are no lengths."""
    steps = [float(step) * unit for step, unit in zip(scale[-2:], units[-2:], strict=True)]
    if not all(step.is_compatible_with("micrometer") for step in steps):
        return None
    return tuple(float(step.to("micrometer").magnitude) for step in steps)

"""What kind of microscope image a picture looks like, by its brightness and colour."""

import numpy as np

LOOKS = ("fluorescence", "histology", "bright-field")

# Of 467 images of DSB2018, dark ones have a median of .17 or less and bright ones of .77 or more;
# bright gray ones a saturation of 0, stained ones of .06 or more.
DARK_BELOW = 0.5
COLOURED_FROM = 0.03


def guess_look(image: np.ndarray) -> str:
    """Return one of ``LOOKS``.

    Brightness is the largest channel of a pixel and saturation (largest - smallest) / largest, as
    in HSV. An image whose median brightness is less than ``DARK_BELOW`` is "fluorescence", since
    its background is dark; of the others, those whose mean saturation is ``COLOURED_FROM`` or more
    are "histology" (stained tissue), those that are gray "bright-field".

    Args:
        image: uint8 (H, W, C) or (H, W), as ``data.read_image`` gives it in any format.
    """
    channels = image.reshape(*image.shape[:2], -1)
    largest, smallest = channels.max(axis=2).astype(float), channels.min(axis=2)
    if np.median(largest) < 255 * DARK_BELOW:
        return "fluorescence"
    saturation = (largest - smallest) / np.maximum(largest, 1)
    return "histology" if saturation.mean() >= COLOURED_FROM else "bright-field"

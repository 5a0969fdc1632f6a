"""Every kind of TIFF: training, labels and prediction read what was written, or say why not."""

import numpy as np
import pytest
import tifffile
from tiff_matrix import LOSSLESS, LOSSY, SHAPE, Variant, special_variants, variants

from unet_sharp_det.errors import UserError
from unet_sharp_det.images import open_image, read_image, read_labels
from unet_sharp_det.images.intensity import prepare

ALL, ROWS, COLUMNS = slice(None), slice(5, 33), slice(11, 47)


def fault_of_images(path, variant: Variant) -> str:
    """Return what is wrong with what training and prediction see; "" if nothing is."""
    try:
        seen = read_image(path, "RGB")
    except UserError as error:
        is_true = variant.values is None and ("channels" in str(error) or "5 pages" in str(error))
        return "" if is_true else f"refused: {error}"
    if variant.values is None:
        return "read, though it has no such plane"
    if np.abs(seen - variant.seen).mean() > max(variant.tolerance, 0.5):
        return f"training sees other pixels, {np.abs(seen - variant.seen).mean():.1f} off"
    (source,) = open_image(path)
    if variant.tolerance == 0 and not np.array_equal(source.window(ALL, ALL), variant.values):
        return "a prediction reads other values"
    window = prepare(source, "RGB", False).window(ROWS, COLUMNS)
    return "" if np.array_equal(window, seen[ROWS, COLUMNS]) else "prediction and training differ"


def fault_of_labels(path, variant: Variant) -> str:
    try:
        found = read_labels(path)
    except UserError as error:
        return f"labels are refused: {error}" if variant.labels is not None else ""
    if variant.labels is not None:
        return "" if np.array_equal(found, variant.labels) else "other labels"
    return "" if found.shape == SHAPE and variant.written.ndim == 2 else "labels of what is none"


@pytest.mark.parametrize("codec", [*LOSSLESS, *LOSSY, "special"])
def test_what_was_written_is_read(tmp_path, codec):
    faults, path = {}, tmp_path / "a.tif"
    for variant in special_variants() if codec == "special" else variants(codec):
        tifffile.imwrite(path, variant.written, **variant.settings)
        fault = fault_of_images(path, variant) or fault_of_labels(path, variant)
        if fault:
            faults[variant.name] = fault
    assert not faults

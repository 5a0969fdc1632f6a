"""Each oddity of DSB2018's files, on a fixture of its own."""

from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest
from PIL import Image

from unet_sharp_det.data.dsb2018_read import read_sample


@pytest.fixture
def read(kaggle):
    """A function (masks, image) that writes one image folder and reads it."""

    def read_one(masks=None, image=None):
        folder = kaggle(masks=masks, image=image)
        return read_sample(next(folder.iterdir()))

    return read_one


def kinds(sample):
    return sorted(kind for kind, _ in sample.quirks)


def test_a_plain_image_has_no_quirk_but_its_alpha_channel(read):
    sample = read({"a": rectangle((2, 5), (3, 9)), "b": rectangle((6, 9), (3, 9))})
    assert kinds(sample) == ["rgba"]
    assert (sample.height, sample.width) == (12, 16)
    assert sample.nuclei[0]["bbox"] == [3, 2, 6, 3]
    assert sample.nuclei[0]["area"] == 18
    assert len(sample.nuclei) == 2


def test_three_channels_are_no_quirk(read, rgba):
    assert kinds(read({"a": rectangle((2, 5), (3, 9))}, rgba()[:, :, :3])) == []


@pytest.mark.parametrize(
    "change, expected",
    [
        (lambda image: image[:, :, 0], ["grayscale"]),
        (lambda image: image.astype(np.uint16)[:, :, :3] * 257, ["sixteen_bit"]),
        (lambda image: image.astype(np.uint16)[:, :, 0] * 257, ["grayscale", "sixteen_bit"]),
        (lambda image: image.astype(np.uint16) * 257, ["rgba", "sixteen_bit"]),
        (lambda image: image // 2, ["alpha_not_opaque"]),
    ],
)
def test_image_formats_are_told_apart(read, rgba, change, expected):
    assert kinds(read({"a": rectangle((2, 5), (3, 9))}, change(rgba()))) == expected


def rectangle(rows, columns, value=255):
    mask = np.zeros((12, 16), np.uint8)
    mask[slice(*rows), slice(*columns)] = value
    return mask


PLAIN, BOX = rectangle((2, 5), (3, 9)), ([3, 2, 6, 3], 18)
COLOURED = np.dstack([np.zeros_like(PLAIN), np.zeros_like(PLAIN), PLAIN, np.full_like(PLAIN, 255)])
#: Of masks: their quirks, and box and area of each nucleus.
MASKS = {
    "none": ([], ["no_masks"], []),
    "without a pixel": ([PLAIN, 0 * PLAIN], ["empty_mask"], [BOX]),
    "the same twice": ([PLAIN, PLAIN], ["duplicate_mask"], [BOX]),
    "of another size": ([PLAIN, PLAIN.T], ["mask_shape"], [BOX]),
    "of two values": ([PLAIN - rectangle((2, 3), (3, 4), 254)], ["non_binary_mask"], [BOX]),
    "of colours and alpha": ([COLOURED], [], [BOX]),
    "with a hole": (
        [rectangle((2, 8), (3, 9)) - rectangle((4, 6), (5, 7))],
        ["holed_mask"],
        [([3, 2, 6, 6], 36 - 4)],
    ),
    "in two parts": (
        [rectangle((0, 3), (0, 3)) + rectangle((9, 12), (13, 16))],
        ["multi_component_mask"],
        [([0, 0, 16, 12], 18)],
    ),
    "whose parts touch at a corner": (
        [rectangle((2, 4), (2, 4)) + rectangle((4, 6), (4, 6))],
        [],
        [([2, 2, 4, 4], 8)],
    ),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks(read, name):
    masks, expected, nuclei = MASKS[name]
    sample = read({f"{number}": mask for number, mask in enumerate(masks)})
    assert kinds(sample) == sorted([*expected, "rgba"])
    assert [(each["bbox"], each["area"]) for each in sample.nuclei] == nuclei
    assert sample.readable


def test_an_overlap_is_counted_and_kept(read):
    sample = read({"a": rectangle((2, 5), (3, 9)), "b": rectangle((4, 7), (7, 12))})
    assert ("overlapping_masks", f"{sample.dsb_id}: 2 pixels") in sample.quirks
    assert [nucleus["area"] for nucleus in sample.nuclei] == [18, 15]


@pytest.mark.parametrize("value", [1, 255, 65535])
def test_a_mask_of_any_one_value_is_binary(read, value):
    mask = (rectangle((2, 5), (3, 9)) > 0).astype(np.uint16 if value > 255 else np.uint8) * value
    assert kinds(read({"a": mask.astype(mask.dtype)})) == ["rgba"]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_a_truncated_image_is_named(kaggle, rgba, share):
    folder = next(kaggle(image=rgba(64, 64)).iterdir())
    image = folder / "images" / f"{folder.name}.png"
    image.write_bytes(image.read_bytes()[: int(image.stat().st_size * share)])
    sample = read_sample(folder)
    named = f"{folder.name}/images/{folder.name}.png"
    assert sample.quirks == [("unreadable_image", named)]
    assert not sample.readable


def test_a_rotten_mask_is_named_and_the_others_stay(kaggle):
    folder = next(kaggle(masks={"good": rectangle((2, 5), (3, 9))}).iterdir())
    (folder / "masks" / "rotten.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    sample = read_sample(folder)
    assert ("unreadable_mask", f"{folder.name}/masks/rotten.png") in sample.quirks
    assert len(sample.nuclei) == 1


@pytest.mark.parametrize("name", ["a.tif", "a.PNG", "a.bmp", "a.TIFF", "mask"])
def test_a_mask_is_one_by_its_content_not_its_name(kaggle, name):
    folder = next(kaggle(masks={"b": rectangle((2, 5), (3, 9))}).iterdir())
    format = Path(name).suffix.lower() or ".png"
    _, content = cv2.imencode(format, rectangle((6, 9), (3, 9)))
    (folder / "masks" / name).write_bytes(content.tobytes())
    sample = read_sample(folder)
    assert kinds(sample) == ["rgba"]
    assert sorted(nucleus["bbox"] for nucleus in sample.nuclei) == [[3, 2, 6, 3], [3, 6, 6, 3]]


def test_every_other_file_is_named_but_hidden_ones(kaggle):
    folder = next(kaggle(masks={"a": rectangle((2, 5), (3, 9))}).iterdir())
    names = ["images/b.png", "masks/deeper/b.png", "masks/notes.txt", "Masks/b.png", "notes.txt"]
    for name in (*names, "masks/.DS_Store", ".DS_Store"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("no image")
    sample = read_sample(folder)
    assert len(sample.nuclei) == 1
    assert sorted(sample.quirks) == [
        ("other_file", f"{folder.name}/Masks"),
        ("other_file", f"{folder.name}/images/b.png"),
        ("other_file", f"{folder.name}/notes.txt"),
        ("rgba", folder.name),
        ("unreadable_mask", f"{folder.name}/masks/deeper"),
        ("unreadable_mask", f"{folder.name}/masks/notes.txt"),
    ]


def test_a_missing_image_is_named(kaggle):
    folder = next(kaggle().iterdir())
    (folder / "images" / f"{folder.name}.png").unlink()
    assert read_sample(folder).quirks == [("missing_image", folder.name)]


def test_alpha_does_not_hide_a_duplicate(read, rgba):
    mask = {"a": rectangle((2, 5), (3, 9))}
    digests = {read(mask, image).digest for image in (rgba(), rgba()[:, :, :3])}
    assert len(digests) == 1
    assert read(mask, rgba(seed=1)).digest not in digests


def test_rle_equals_the_png_by_two_decoders(sample_folder):
    folder = sorted((sample_folder / "stage1_train").iterdir())[0]
    nuclei = read_sample(folder).nuclei
    paths = sorted((folder / "masks").iterdir())
    assert len(nuclei) == len(paths) > 10
    for nucleus, path in zip(nuclei, paths, strict=True):
        decoded = mask_util.decode(nucleus["segmentation"])
        by_pil = np.asarray(Image.open(path)) > 0
        by_opencv = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) > 0
        assert (decoded == by_pil).all()
        assert (decoded == by_opencv).all()
        rows, columns = np.nonzero(by_pil)
        x, y, width, height = nucleus["bbox"]
        assert (x, y) == (columns.min(), rows.min())
        assert (x + width - 1, y + height - 1) == (columns.max(), rows.max())
        assert nucleus["area"] == by_pil.sum()

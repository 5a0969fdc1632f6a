"""Cutting the images of a COCO data set into square tiles, with their masks and label maps."""

import argparse
import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_util
from detectron2.data import MetadataCatalog

from unet_sharp_det.data.catalog import load_coco_nuclei
from unet_sharp_det.data.coco_json import read_coco
from unet_sharp_det.data.label_maps import read_label_map
from unet_sharp_det.errors import DatasetError, UserError
from unet_sharp_det.files import atomic_path, write_json
from unet_sharp_det.images.decoding import read_image
from unet_sharp_det.images.intensity import rescale_to_uint8
from unet_sharp_det.masks.rle import mask_pixels, numbered, to_rles


def main(argv) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks tiles",
        description="Cut a COCO data set into square tiles, in the layout of prepare_dsb2018.py.",
    )
    add = parser.add_argument
    add("json_file", type=Path, metavar="JSON", help="COCO annotations with masks")
    add("--image-root", type=Path, help="of its file names (default: the parent of its folder)")
    add("--sem-seg-root", type=Path, help="of label maps (default: semantic/ in the image root)")
    add("--output", type=Path, required=True, help="folder to write to")
    add("--size", type=int, default=64, help="side in pixels (default: %(default)s)")
    add("--stride", type=int, help="of the grid, in pixels (default: the size)")
    add("--empty-share", type=float, metavar="S", help="share of tiles without annotated pixels")
    add("--seed", type=int, default=0, help="of the tiles that are left out (default: 0)")
    add(
        "--stretch-contrast",
        action="store_true",
        help="of each image before it is cut; then train with INPUT.STRETCH_CONTRAST False",
    )
    options = vars(parser.parse_args(argv[1:]))
    root = options["image_root"] or options["json_file"].parent.parent
    if options["sem_seg_root"] is None and (root / "semantic").is_dir():
        options["sem_seg_root"] = root / "semantic"
    tiling = make_tiles(**{**options, "image_root": root})
    print(f"{tiling.images} images: {tiling.tiles} tiles, {tiling.empty} of them empty")
    print(f"kept: {tiling.kept}, {tiling.kept_empty} of them empty, in {options['output']}")


@dataclass(frozen=True)
class Tile:
    """A part of an image.

    Attributes:
        file_name: ``images/<image stem>_y<top>_x<left>.png``.
        rows, columns: of the image.
        objects: COCO annotations of what is visible in it, without ids.
        empty: no annotated pixel lies in it.
    """

    file_name: str
    rows: slice
    columns: slice
    objects: list[dict]
    empty: bool

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width)."""
        return self.rows.stop - self.rows.start, self.columns.stop - self.columns.start


@dataclass(frozen=True)
class Tiling:
    """Numbers of images, of all their tiles and of those that were kept."""

    images: int
    tiles: int
    empty: int
    kept: int
    kept_empty: int


def make_tiles(
    json_file,
    image_root,
    output,
    *,
    sem_seg_root=None,
    size: int = 64,
    stride: int | None = None,
    empty_share: float | None = None,
    seed: int = 0,
    stretch_contrast: bool = False,
) -> Tiling:
    """Cut every image into tiles, and write them as a data set of their own.

    The last tile of a row or column is shifted inwards, so that all tiles have the full size and
    cover the whole image; along a side shorter than a tile, the side is kept whole. Each visible
    pixel of an object stays annotated, so a tile without annotations is really empty. Tiles are
    8-bit BGR images: deeper ones are scaled as a whole before they are cut.

    Written are ``images/``, ``annotations/<name of json_file>`` with RLE masks and, if there are
    label maps, ``semantic/`` below ``output``; every file atomically, the json file last. The same
    input gives the same bytes. Tiles of an earlier run that the json file lists no longer stay.

    Args:
        json_file, image_root, sem_seg_root: as :func:`register_coco_nuclei` takes them. Masks of
            objects are needed.
        output: the folder to write to, which must not hold the input.
        size: side of the tiles in pixels.
        stride: distance of the tiles in pixels. None: ``size``.
        empty_share: wanted share of empty tiles, above 0 and below 1: tiles of the kind that is
            too frequent are left out at random. None: keep all.
        seed: of the draw.
        stretch_contrast: bring each image's percentiles 1 and 99.8 to 0 and 255 before it is cut,
            as ``INPUT.STRETCH_CONTRAST`` does. Tiles of one image must not be stretched one by one:
            the noise of an empty one would look like objects. So leave that key off on tiles.

    Raises:
        DatasetError: the data set is unusable, lacks masks, has label maps for some images only,
            or has images that differ in folder or suffix alone.
        UserError: an option is out of its range, ``output`` holds the input, or ``empty_share`` is
            given and all tiles are of one kind.
    """
    stride = size if stride is None else stride
    _check_options(size, stride, empty_share)
    _check_output(output, json_file, image_root, sem_seg_root)
    records, categories = _load(json_file, image_root, sem_seg_root)
    tiles = [list(_cut(record, size, stride)) for record in records]
    flat = list(itertools.chain.from_iterable(tiles))
    chosen = flat if empty_share is None else _draw(flat, empty_share, seed)
    kept = {tile.file_name for tile in chosen}
    for record, all_of_image in zip(records, tiles, strict=True):
        of_image = [t for t in all_of_image if t.file_name in kept]
        _write_images(Path(output), record, of_image, stretch_contrast)
    write_json(Path(output, "annotations", Path(json_file).name), _to_coco(chosen, categories))
    empty = [sum(tile.empty for tile in group) for group in (flat, chosen)]
    return Tiling(len(records), len(flat), empty[0], len(chosen), empty[1])


def _check_options(size: int, stride: int, empty_share: float | None) -> None:
    if size < 1:
        raise UserError(f"The size of a tile is {size}, but it must be 1 pixel or more.")
    if not 1 <= stride <= size:
        raise UserError(f"The stride is {stride}, but must lie in 1..{size}, the tile's size.")
    if empty_share is not None and not 0 < empty_share < 1:
        raise UserError(f"The share of empty tiles is {empty_share}, not between 0 and 1.")


def _check_output(output, *inputs) -> None:
    folder = Path(output).resolve()
    for path in filter(None, inputs):
        if folder in (Path(path).resolve(), *Path(path).resolve().parents):
            raise UserError(f"{output}: holds the input {path}. Give another folder to write to.")


def _load(json_file, image_root, sem_seg_root) -> tuple[list[dict], list[dict]]:
    """Return the checked dataset dicts, with the json file's category ids, and its categories."""
    name = Path(json_file).name
    categories = sorted(read_coco(json_file)["categories"], key=lambda category: category["id"])
    classes = [category["name"] for category in categories]
    try:
        records = load_coco_nuclei(name, json_file, image_root, classes, sem_seg_root=sem_seg_root)
    finally:
        MetadataCatalog.pop(name, None)
    stems = Counter(Path(record["file_name"]).stem for record in records)
    stem, count = stems.most_common(1)[0]
    if count > 1:
        raise DatasetError(f"{json_file}: {count} images are called {stem}, as their tiles would.")
    for annotation in itertools.chain.from_iterable(r["annotations"] for r in records):
        annotation["category_id"] = categories[annotation["category_id"]]["id"]
    return records, categories


def _cut(record: dict, size: int, stride: int) -> Iterator[Tile]:
    """Yield the tiles of an image, row by row."""
    shape = (record["height"], record["width"])
    objects = _read_objects(record["annotations"], shape, record["file_name"])
    annotated = np.zeros(shape, bool)
    if "sem_seg_file_name" in record:
        annotated |= read_label_map(record) != 0
    for each in objects:
        annotated[each.rows, each.columns] = True
    for rows in _spans(shape[0], size, stride):
        in_rows = [each for each in objects if each.touches(rows)]
        for columns in _spans(shape[1], size, stride):
            visible = [each.visible(rows, columns) for each in in_rows]
            stem = Path(record["file_name"]).stem
            yield Tile(
                file_name=f"images/{stem}_y{rows.start}_x{columns.start}.png",
                rows=rows,
                columns=columns,
                objects=[annotation for annotation in visible if annotation],
                empty=not annotated[rows, columns].any(),
            )


def _spans(length: int, size: int, stride: int) -> list[slice]:
    """Return the tiles' ranges along one side; the last one ends where the side does."""
    last = max(length - size, 0)
    starts = [*range(0, last, stride), last]
    return [slice(start, min(start + size, length)) for start in starts]


@dataclass(frozen=True)
class _Object:
    """An annotation as the list of its pixels: of huge images, no mask is ever decoded whole."""

    rows: np.ndarray
    columns: np.ndarray
    annotation: dict

    def touches(self, rows: slice) -> bool:
        return bool(((self.rows >= rows.start) & (self.rows < rows.stop)).any())

    def visible(self, rows: slice, columns: slice) -> dict | None:
        """Return the COCO annotation, without ids, of the pixels in the tile; None without any."""
        inside = (self.rows >= rows.start) & (self.rows < rows.stop)
        inside &= (self.columns >= columns.start) & (self.columns < columns.stop)
        if not inside.any():
            return None
        shape = (rows.stop - rows.start, columns.stop - columns.start)
        mask = np.zeros(shape, np.uint8, order="F")
        mask[self.rows[inside] - rows.start, self.columns[inside] - columns.start] = 1
        rle = mask_util.encode(mask)
        return {
            "category_id": self.annotation["category_id"],
            "iscrowd": self.annotation.get("iscrowd", 0),
            "area": int(inside.sum()),
            "bbox": mask_util.toBbox(rle).tolist(),
            "segmentation": {"size": list(shape), "counts": rle["counts"].decode("ascii")},
        }


def _read_objects(annotations: list[dict], shape: tuple[int, int], where: str) -> list[_Object]:
    segmentations = [annotation.get("segmentation") for annotation in annotations]
    masks = mask_pixels(to_rles(segmentations, shape, numbered(where)))
    return [
        _Object(pixels % shape[0], pixels // shape[0], annotation)
        for pixels, annotation in zip(masks, annotations, strict=True)
    ]


def _draw(tiles: list[Tile], share: float, seed: int) -> list[Tile]:
    """Leave out tiles of the kind that is too frequent, until ``share`` of them is empty."""
    empty = sum(tile.empty for tile in tiles)
    held = len(tiles) - empty
    if not (empty and held):
        raise UserError(
            f"{empty} of {len(tiles)} tiles are empty: no choice of them has the share {share}. "
            "Change the size or the stride of the tiles."
        )
    wanted = {
        True: min(empty, round(held * share / (1 - share))),
        False: min(held, round(empty * (1 - share) / share)),
    }
    generator = np.random.default_rng(seed)
    kept = set()
    for kind, count in wanted.items():
        indices = [index for index, tile in enumerate(tiles) if tile.empty == kind]
        kept.update(generator.permutation(indices)[: max(count, 1)].tolist())
    return [tiles[index] for index in sorted(kept)]


def _write_images(output: Path, record: dict, tiles: list[Tile], stretch_contrast: bool) -> None:
    if not tiles:
        return
    image = read_image(record["file_name"], "BGR")
    shape = (record["height"], record["width"])
    if image.shape[:2] != shape:
        raise DatasetError(
            f"{record['file_name']}: has (height, width) {image.shape[:2]}, but the json file says "
            f"{shape}."
        )
    if stretch_contrast:
        image = rescale_to_uint8(image)
    labels = read_label_map(record) if "sem_seg_file_name" in record else None
    for tile in tiles:
        _write_png(output / tile.file_name, image[tile.rows, tile.columns])
        if labels is not None:
            path = output / "semantic" / Path(tile.file_name).name
            _write_png(path, labels[tile.rows, tile.columns])


def _write_png(path: Path, pixels: np.ndarray) -> None:
    with atomic_path(path) as temporary:
        temporary.write_bytes(cv2.imencode(".png", pixels)[1].tobytes())


def _to_coco(tiles: list[Tile], categories: list[dict]) -> dict:
    images, annotations = [], []
    for image_id, tile in enumerate(tiles, start=1):
        height, width = tile.shape
        images.append(
            {"id": image_id, "file_name": tile.file_name, "width": width, "height": height}
        )
        for visible in tile.objects:
            ids = {"id": len(annotations) + 1, "image_id": image_id}
            annotations.append({**ids, **visible})
    return {"categories": categories, "images": images, "annotations": annotations}

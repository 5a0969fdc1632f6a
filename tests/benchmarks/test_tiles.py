"""Tiles: pixels, masks and label maps are those of the crop; emptiness, the draw, the files."""

import json

import cv2
import numpy as np
import pycocotools.mask as mask_util
import pytest

from benchmarks.__main__ import main
from benchmarks.tiles import make_tiles
from unet_sharp_det.data import load_coco_nuclei
from unet_sharp_det.data.label_maps import read_label_map, union_mask
from unet_sharp_det.errors import DatasetError, UserError
from unet_sharp_det.images import read_image
from unet_sharp_det.images.intensity import rescale_to_uint8

CATEGORIES = [{"id": 3, "name": "nucleus"}, {"id": 7, "name": "dividing"}]
CLASSES = [category["name"] for category in CATEGORIES]


def disk(shape, row, column, radius):
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    return (rows - row) ** 2 + (columns - column) ** 2 <= radius**2


def rle(mask):
    encoded = mask_util.encode(np.asfortranarray(mask, np.uint8))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode()}


class Dataset:
    """A COCO data set in a folder; images are noise."""

    def __init__(self, root):
        self.root = root
        self.json_file = root / "annotations" / "some.json"
        self.images, self.annotations = [], []

    def add(self, name, shape, segmentations, pixels=None, category_ids=None, **more):
        image_id = 10 * (len(self.images) + 1)
        if pixels is None:
            generator = np.random.default_rng(image_id)
            pixels = generator.integers(0, 256, (*shape, 3), dtype=np.uint8)
        path = self.root / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), pixels)
        size = {"height": shape[0], "width": shape[1]}
        self.images.append({"id": image_id, "file_name": f"images/{name}", **size})
        for index, segmentation in enumerate(segmentations):
            ids = {"id": len(self.annotations) + 5, "image_id": image_id}
            ids["category_id"] = category_ids[index] if category_ids else 3
            box = {"bbox": [0, 0, 1, 1], "area": 1, "iscrowd": 0}
            self.annotations.append({**ids, **box, "segmentation": segmentation, **more})
        return pixels

    def cut(self, output, **options):
        content = {"images": self.images, "annotations": self.annotations}
        self.json_file.parent.mkdir(parents=True, exist_ok=True)
        self.json_file.write_text(json.dumps({**content, "categories": CATEGORIES}))
        return make_tiles(self.json_file, self.root, output, **options)


@pytest.fixture
def dataset(tmp_path):
    return Dataset(tmp_path / "input")


def read_tiles(output):
    """The dataset dicts of the tiles by (top, left), checked as registration checks them."""
    file = output / "annotations" / "some.json"
    semantic = output / "semantic"
    records = load_coco_nuclei(
        "tiles", file, output, CLASSES, sem_seg_root=semantic, sem_seg_optional=True
    )
    return {position(record["file_name"]): record for record in records}


def position(file_name):
    _, top, left = file_name.removesuffix(".png").rsplit("_", 2)
    return int(top[1:]), int(left[1:])


def masks_of(record):
    shape = (record["height"], record["width"])
    annotations = record["annotations"]
    return [union_mask([each["segmentation"]], shape, "here") for each in annotations]


class TestTilesAreCrops:
    SHAPE = (50, 70)

    @pytest.fixture
    def truth(self):
        """Disks in and across the tiles, one of them over the border of the image."""
        places = [(16, 16, 9), (30, 40, 6), (49, 69, 5), (3, 60, 1), (20, 30, 0)]
        return [disk(self.SHAPE, *place) for place in places]

    @pytest.fixture
    def pixels(self, dataset, truth):
        ids = [3, 7, 3, 7, 3]
        return dataset.add("a.png", self.SHAPE, [rle(m) for m in truth], category_ids=ids)

    def test_grid_covers_the_image_in_tiles_of_full_size(self, dataset, pixels, tmp_path):
        tiling = dataset.cut(tmp_path / "out", size=16)
        tiles = read_tiles(tmp_path / "out")
        tops, lefts = (0, 16, 32, 34), (0, 16, 32, 48, 54)
        assert set(tiles) == {(top, left) for top in tops for left in lefts}
        assert {(tile["height"], tile["width"]) for tile in tiles.values()} == {(16, 16)}
        assert (tiling.images, tiling.tiles, tiling.kept) == (1, 20, 20)

    @pytest.mark.parametrize("stride", [None, 7])
    def test_pixels(self, dataset, pixels, tmp_path, stride):
        dataset.cut(tmp_path / "out", size=16, stride=stride)
        for (top, left), tile in read_tiles(tmp_path / "out").items():
            crop = pixels[top : top + 16, left : left + 16]
            assert np.array_equal(read_image(tile["file_name"], "BGR"), crop)

    @pytest.mark.parametrize("stride", [None, 7])
    def test_masks(self, dataset, pixels, truth, tmp_path, stride):
        dataset.cut(tmp_path / "out", size=16, stride=stride)
        for (top, left), tile in read_tiles(tmp_path / "out").items():
            crops = [mask[top : top + 16, left : left + 16] for mask in truth]
            visible = [index for index, crop in enumerate(crops) if crop.any()]
            assert np.array_equal(masks_of(tile), [crops[index] for index in visible])
            labels = [annotation["category_id"] for annotation in tile["annotations"]]
            assert labels == [index % 2 for index in visible]
            for annotation, index in zip(tile["annotations"], visible, strict=True):
                rows, columns = np.nonzero(crops[index])
                low = (columns.min(), rows.min())
                size = (np.ptp(columns) + 1, np.ptp(rows) + 1)
                assert annotation["bbox"] == [*low, *size]

    def test_area_ids_and_categories(self, dataset, pixels, truth, tmp_path):
        dataset.cut(tmp_path / "out", size=16)
        content = json.loads((tmp_path / "out" / "annotations" / "some.json").read_text())
        assert content["categories"] == CATEGORIES
        for section in ("images", "annotations"):
            ids = [entry["id"] for entry in content[section]]
            assert len(set(ids)) == len(ids) > 1
        areas = [each["area"] for each in content["annotations"]]
        masks = [mask_util.decode(each["segmentation"]) for each in content["annotations"]]
        assert areas == [mask.sum() for mask in masks]
        assert {each["category_id"] for each in content["annotations"]} == {3, 7}

    def test_polygons_and_uncompressed_rles(self, dataset, tmp_path):
        shape = (40, 40)
        polygons = [[2, 3, 30, 5, 28.5, 33, 6, 20], [31, 31, 38, 31, 38, 38]]
        counts = [5, 40, 100, 3, 12, 1440]
        both = [polygons, {"size": list(shape), "counts": counts}]
        dataset.add("a.png", shape, both)
        dataset.cut(tmp_path / "out", size=20)
        whole = [union_mask([each], shape, "here") for each in both]
        for (top, left), tile in read_tiles(tmp_path / "out").items():
            crops = [mask[top : top + 20, left : left + 20] for mask in whole]
            assert np.array_equal(masks_of(tile), [crop for crop in crops if crop.any()])

    def test_label_maps(self, dataset, pixels, tmp_path):
        labels = np.random.default_rng(0).integers(0, 3, self.SHAPE, dtype=np.uint8)
        folder = tmp_path / "labels"
        folder.mkdir()
        cv2.imwrite(str(folder / "a.png"), labels)
        dataset.cut(tmp_path / "out", size=16, sem_seg_root=folder)
        for (top, left), tile in read_tiles(tmp_path / "out").items():
            assert "sem_seg_file_name" in tile
            assert np.array_equal(read_label_map(tile), labels[top : top + 16, left : left + 16])


class TestSmallAndDeepImages:
    @pytest.mark.parametrize("shape", [(10, 12), (10, 40), (16, 16)])
    def test_a_side_shorter_than_a_tile_is_kept_whole(self, dataset, tmp_path, shape):
        dataset.add("a.png", shape, [rle(disk(shape, 5, 5, 3))])
        dataset.cut(tmp_path / "out", size=16)
        sizes = {(tile["height"], tile["width"]) for tile in read_tiles(tmp_path / "out").values()}
        assert sizes == {(min(shape[0], 16), min(shape[1], 16))}

    def test_16_bit_is_scaled_before_it_is_cut(self, dataset, tmp_path):
        ramp = np.linspace(0, 60000, 32 * 32).reshape(32, 32).astype(np.uint16)
        dataset.add("a.png", (32, 32), [], pixels=ramp)
        dataset.cut(tmp_path / "out", size=16)
        whole = read_image(dataset.root / "images" / "a.png", "BGR")
        tile = read_tiles(tmp_path / "out")[16, 0]["file_name"]
        assert np.array_equal(read_image(tile, "BGR"), whole[16:, :16])


class TestEmpty:
    SHAPE = (32, 32)

    def empty(self, dataset, output, **options):
        return dataset.cut(output, size=16, **options).empty

    def test_one_visible_pixel_is_enough(self, dataset, tmp_path):
        mask = disk(self.SHAPE, 8, 8, 8)  # Reaches row 16 and column 16 by one pixel each.
        dataset.add("a.png", self.SHAPE, [rle(mask)])
        assert self.empty(dataset, tmp_path / "out") == 1
        tiles = read_tiles(tmp_path / "out")
        assert [len(tiles[key]["annotations"]) for key in sorted(tiles)] == [1, 1, 1, 0]

    def test_crowd_counts(self, dataset, tmp_path):
        dataset.add("a.png", self.SHAPE, [rle(disk(self.SHAPE, 5, 5, 2))] * 2)
        dataset.annotations[0]["iscrowd"] = 1
        assert self.empty(dataset, tmp_path / "out") == 3
        assert read_tiles(tmp_path / "out")[0, 0]["annotations"][0]["iscrowd"] == 1

    def test_label_map_counts(self, dataset, tmp_path):
        dataset.add("a.png", self.SHAPE, [rle(disk(self.SHAPE, 5, 5, 2))])
        labels = np.zeros(self.SHAPE, np.uint8)
        labels[20, 20] = 255  # Ignored: nobody knows whether it is background.
        (tmp_path / "labels").mkdir()
        cv2.imwrite(str(tmp_path / "labels" / "a.png"), labels)
        assert self.empty(dataset, tmp_path / "out", sem_seg_root=tmp_path / "labels") == 2


class TestShare:
    @pytest.fixture(autouse=True)
    def three_of_nine_empty(self, dataset):
        shape = (48, 48)
        mask = np.zeros(shape, bool)
        mask[:32] = True
        dataset.add("a.png", shape, [rle(mask)])

    @pytest.mark.parametrize(
        ("share", "empty", "held"), [(0.5, 3, 3), (0.6, 3, 2), (0.25, 2, 6), (0.01, 1, 6)]
    )
    def test_the_kind_that_is_too_frequent_is_thinned_out(
        self, dataset, tmp_path, share, empty, held
    ):
        tiling = dataset.cut(tmp_path / "out", size=16, empty_share=share)
        assert (tiling.kept_empty, tiling.kept - tiling.kept_empty) == (empty, held)
        assert (tiling.tiles, tiling.empty) == (9, 3)
        tiles = read_tiles(tmp_path / "out").values()
        assert sum(not tile["annotations"] for tile in tiles) == empty
        assert len(list((tmp_path / "out" / "images").iterdir())) == len(tiles) == empty + held

    def test_the_seed_draws(self, dataset, tmp_path):
        drawn = []
        for run, seed in enumerate([0, 0, 1, 2, 3]):
            dataset.cut(tmp_path / str(run), size=16, empty_share=0.6, seed=seed)
            drawn.append(frozenset(read_tiles(tmp_path / str(run))))
        assert drawn[0] == drawn[1]
        assert len(set(drawn)) > 1

    @pytest.mark.parametrize("share", [0, 1, -0.1, 50])
    def test_out_of_range(self, dataset, tmp_path, share):
        with pytest.raises(UserError, match="between 0 and 1"):
            dataset.cut(tmp_path / "out", empty_share=share)

    def test_of_one_kind_only(self, dataset, tmp_path):
        with pytest.raises(UserError, match="0 of 1 tiles are empty"):
            dataset.cut(tmp_path / "out", size=48, empty_share=0.5)


class TestFiles:
    @pytest.fixture(autouse=True)
    def two_images(self, dataset):
        for name in ("a.png", "b.png"):
            dataset.add(name, (20, 30), [rle(disk((20, 30), 5, 5, 4))])

    def test_same_bytes_each_time(self, dataset, tmp_path):
        contents = []
        for run in ("one", "two"):
            dataset.cut(tmp_path / run, size=16, empty_share=0.5)
            files = sorted(path for path in (tmp_path / run).rglob("*") if path.is_file())
            contents.append({str(p.relative_to(tmp_path / run)): p.read_bytes() for p in files})
        assert contents[0] == contents[1]
        assert len(contents[0]) > 3

    def test_a_failure_leaves_no_json_file(self, dataset, tmp_path):
        (dataset.root / "images" / "b.png").write_bytes(b"no image")
        with pytest.raises(DatasetError, match=r"b\.png"):
            dataset.cut(tmp_path / "out", size=16)
        assert not (tmp_path / "out" / "annotations").exists()

    @pytest.mark.parametrize("inside", [".", "..", "images/.."])
    def test_the_input_is_not_written_into(self, dataset, inside):
        with pytest.raises(UserError, match="holds the input"):
            dataset.cut(dataset.root / inside)

    def test_a_folder_in_the_image_root_will_do(self, dataset):
        assert dataset.cut(dataset.root / "tiles").tiles == 2

    @pytest.mark.parametrize("stride", [0, 65])
    def test_stride(self, dataset, tmp_path, stride):
        with pytest.raises(UserError, match=r"1\.\.64"):
            dataset.cut(tmp_path / "out", stride=stride)

    def test_images_of_the_same_name(self, dataset, tmp_path):
        dataset.add("more/a.png", (20, 30), [])
        with pytest.raises(DatasetError, match="2 images are called a"):
            dataset.cut(tmp_path / "out")

    def test_boxes_alone(self, dataset, tmp_path):
        del dataset.annotations[0]["segmentation"]
        with pytest.raises(DatasetError, match="has no 'segmentation'"):
            dataset.cut(tmp_path / "out")

    def test_an_image_of_another_size(self, dataset, tmp_path):
        cv2.imwrite(str(dataset.root / "images" / "a.png"), np.zeros((21, 30, 3), np.uint8))
        with pytest.raises(DatasetError, match=r"a\.png has \(height, width\) \(21, 30\)"):
            dataset.cut(tmp_path / "out")

    def test_a_name_that_leads_out_of_the_image_root(self, dataset, tmp_path):
        dataset.images[0]["file_name"] = "../secret.png"
        cv2.imwrite(str(tmp_path / "secret.png"), np.zeros((20, 30, 3), np.uint8))
        with pytest.raises(DatasetError, match=r"secret\.png' could lead out of"):
            dataset.cut(tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_missing_file(self, tmp_path):
        with pytest.raises(DatasetError, match=r"There is no file .*none\.json"):
            make_tiles(tmp_path / "none.json", tmp_path, tmp_path / "out")


def test_command(converted_sample, tmp_path, capsys):
    json_file = converted_sample / "annotations" / "dsb2018_val.json"
    options = ["--output", tmp_path / "out", "--size", 128, "--empty-share", 0.5]
    assert main([str(option) for option in ("tiles", json_file, *options)]) == 0
    out = capsys.readouterr().out
    assert "8 images: 96 tiles, 27 of them empty" in out
    assert "kept: 54, 27 of them empty" in out
    assert len(list((tmp_path / "out" / "semantic").iterdir())) == 54


def test_contrast_is_stretched_over_the_whole_image(dataset, tmp_path):
    """A dim half stays dim: stretched by itself, its noise would fill the range."""
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 10, (16, 32, 3), dtype=np.uint8)
    pixels[:, 16:] = generator.integers(60, 100, (16, 16, 3))
    dataset.add("a.png", (16, 32), [rle(disk((16, 32), 8, 24, 4))], pixels)
    dataset.cut(tmp_path / "output", size=16, stretch_contrast=True)
    dim, bright = (
        cv2.imread(str(tmp_path / "output" / "images" / f"a_y0_x{left}.png")) for left in (0, 16)
    )
    assert np.array_equal(np.hstack([dim, bright]), rescale_to_uint8(pixels))
    assert dim.max() < 30 < 240 < bright.max()

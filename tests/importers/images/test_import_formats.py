"""Each format, in files of its own library or of its documented layout, gives the same masks."""

import base64
import json
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from annotated_images import CORNERS, SHAPE, STEMS, coco, picture, save, truth, write_coco
from roifile import ROI_TYPE, ImagejRoi, roiwrite
from scipy.io import savemat

from unet_sharp_det.importers.images import FORMATS
from unet_sharp_det.outputs import OUTPUTS


def write_folders(root, suffix=".png", labels="masks"):
    for seed, stem in enumerate(STEMS):
        save(root / "images" / f"{stem}.png", picture(seed))
        save(root / labels / f"{stem}{suffix}", truth())


def write_cellpose(root):
    for seed, stem in enumerate(STEMS):
        save(root / f"{stem}_img.png", picture(seed))
        save(root / f"{stem}_masks.png", truth())


def write_cellpose_sessions(root):
    """As the window saves them: of the first image beside the masks as PNG, of others alone."""
    write_cellpose(root)
    for stem in STEMS:
        content = {"masks": truth(), "filename": f"{stem}_img.png", "ismanual": truth()[0] > 0}
        content |= {"outlines": truth() % 2, "flows": [np.zeros((1, 4, 4, 3), np.uint8), []]}
        np.save(root / f"{stem}_seg.npy", content | {"diameter": np.float64(9), "colors": None})
    for stem in STEMS[1:]:
        (root / f"{stem}_masks.png").unlink()


def write_bbbc039(root):
    """Masks as published: red numbers the objects, and objects that do not touch share numbers."""
    for seed, stem in enumerate(STEMS):
        save(root / "images" / f"{stem}.tif", picture(seed)[:, :, 0].astype(np.uint16))
        red = np.where(truth() == 2, 2, truth() > 0)
        empty = np.zeros(SHAPE)
        save(root / "masks" / f"{stem}.png", np.dstack([empty, empty, red, empty + 255]))
    with zipfile.ZipFile(root / "masks.zip", "w") as download:
        download.write(root / "masks" / "a.png")


def write_suffixes(root):
    for seed, stem in enumerate(STEMS):
        tifffile.imwrite(root / f"{stem}.btf", picture(seed)[:, :, 0].astype(np.uint16) * 16)
        np.save(root / f"{stem}_cp_masks.npy", truth().astype(np.int32))


def write_nuinsseg(root):
    for seed, stem in enumerate(STEMS):
        save(root / "human bladder" / "tissue images" / f"{stem}.png", picture(seed))
        save(root / "human bladder" / "label masks" / f"{stem}.tif", truth())


def write_tracking(root):
    for seed in range(4):
        save(root / "01" / f"t{seed:03d}.tif", picture(seed)[:, :, 0])
    for seed in (0, 2):
        save(root / "01_GT" / "SEG" / f"man_seg{seed:03d}.tif", truth())


def write_object_masks(root):
    for seed, stem in enumerate(STEMS):
        save(root / stem / "images" / f"{stem}.png", picture(seed))
        for number in range(1, 5):
            save(root / stem / "masks" / f"{number}.png", 255 * (truth() == number).view(np.uint8))


def write_masks(root, number):
    for seed, stem in enumerate(STEMS):
        save(root / "images" / f"{stem}.png", picture(seed))
        mask = np.where(truth() == 2, 0, number * (truth() > 0))
        save(root / "masks" / f"{stem}.png", mask.astype(np.uint8))


def write_via(root):
    """VIA 2 writes images' ids as text, and an object's polygon not in a list of polygons."""
    write_coco(root, polygons=True)
    content = coco(polygons=True)
    for each in content["annotations"]:
        each |= {"image_id": str(each["image_id"]), "segmentation": each["segmentation"][0]}
    (root / "annotations" / "all.json").write_text(json.dumps(content))


def write_hovernet(root):
    for seed, stem in enumerate(STEMS):
        save(root / "Images" / f"{stem}.png", picture(seed))
        content = {"inst_map": truth().astype(float), "inst_type": np.array([[1.0], [2], [1], [1]])}
        (root / "Labels").mkdir(exist_ok=True)
        savemat(root / "Labels" / f"{stem}.mat", content)


def write_aperio(root):
    regions = ""
    for number, corners in enumerate(CORNERS, 1):
        vertices = "".join(f'<Vertex X="{x:.1f}" Y="{y:.1f}" Z="0"/>' for x, y in corners)
        regions += f'<Region Id="{number}"><Vertices>{vertices}</Vertices></Region>'
    text = (
        '<Annotations MicronsPerPixel="0.252"><Annotation Id="1" Name=""><Attributes>'
        '<Attribute Name="Description" Id="0" Value=""/></Attributes><Regions>'
        f"<RegionAttributeHeaders/>{regions}</Regions></Annotation></Annotations>"
    )
    for seed, stem in enumerate(STEMS):
        save(root / "Tissue Images" / f"{stem}.tif", picture(seed))
        (root / "Annotations").mkdir(exist_ok=True)
        (root / "Annotations" / f"{stem}.xml").write_text(text)


def write_labelme(root):
    shapes = [
        {"label": "cell", "points": corners, "group_id": None, "shape_type": "polygon", "flags": {}}
        for corners in CORNERS
    ]
    shapes[0] |= {"shape_type": "rectangle", "points": [CORNERS[0][0], CORNERS[0][2]]}
    shapes[1] |= {"shape_type": "oriented_rectangle"}
    png = base64.b64encode(cv2.imencode(".png", np.ones((8, 8), np.uint8))[1])
    shapes[3] |= {"shape_type": "mask", "points": [[56, 40], [63, 47]], "mask": png.decode()}
    for seed, stem in enumerate(STEMS):
        save(root / f"{stem}.png", picture(seed))
        content = {"version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{stem}.png"}
        content |= {"imageData": None, "imageHeight": SHAPE[0], "imageWidth": SHAPE[1]}
        (root / f"{stem}.json").write_text(json.dumps(content))


def write_geojson(root, ending=".geojson", height=(), **classification):
    features = []
    for corners in CORNERS:
        ring = [[*corner, *height] for corner in (*corners, corners[0])]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        classification = classification or {"name": "cell"}
        properties = {"objectType": "annotation", "classification": classification}
        features.append({"type": "Feature", "geometry": geometry, "properties": properties})
    for seed, stem in enumerate(STEMS):
        save(root / f"{stem}.png", picture(seed))
        content = {"type": "FeatureCollection", "features": features}
        (root / f"{stem}{ending}").write_text(json.dumps(content))


def write_rois(root, ending="_RoiSet.zip"):
    rois = [ImagejRoi.frompoints(np.array(corners)) for corners in CORNERS]
    for roi in rois:
        roi.roitype = ROI_TYPE.FREEHAND
    for seed, stem in enumerate(STEMS):
        save(root / f"{stem}.tif", picture(seed))
        roiwrite(root / f"{stem}{ending}", rois)


def write_rois_of_a_mac(root):
    """Archives of a folder, with what the Finder adds."""
    write_rois(root)
    for path in root.glob("*.zip"):
        with zipfile.ZipFile(path, "a") as archive:
            name = archive.namelist()[0]
            archive.writestr("rois/", b"")
            archive.writestr(f"__MACOSX/rois/._{name}", b"\0\5\x16\7")


LAYOUTS = {
    "folders of PNG": (write_folders, "label-maps", "object"),
    "folders of TIFF": (lambda root: write_folders(root, ".tif", "labels"), "label-maps", "object"),
    "Cellpose": (write_cellpose, "label-maps", "object"),
    "Cellpose's window": (write_cellpose_sessions, "label-maps", "object"),
    "BBBC039": (write_bbbc039, "label-maps", "object"),
    "16 bit and NPY": (write_suffixes, "label-maps", "object"),
    "NuInsSeg": (write_nuinsseg, "label-maps", "object"),
    "Cell Tracking Challenge": (write_tracking, "label-maps", "object"),
    "DSB2018": (write_object_masks, "object-masks", "object"),
    "COCO with RLE": (write_coco, "coco", "cell"),
    "COCO with polygons": (lambda root: write_coco(root, polygons=True), "coco", "cell"),
    "VIA": (write_via, "coco", "cell"),
    "MoNuSeg": (write_aperio, "aperio-xml", "object"),
    "labelme": (write_labelme, "labelme", "cell"),
    "QuPath": (write_geojson, "geojson", "cell"),
    "QuPath, with heights": (lambda root: write_geojson(root, height=[0]), "geojson", "cell"),
    "QuPath, of several classes": (
        lambda root: write_geojson(root, names=["Tumor", "Ki67"]),
        "geojson",
        "Tumor: Ki67",
    ),
    "GeoJSON of predict": (
        lambda root: write_geojson(root, OUTPUTS["geojson"].ending),
        "geojson",
        "cell",
    ),
    "ImageJ": (write_rois, "imagej-rois", "object"),
    "ImageJ on a Mac": (write_rois_of_a_mac, "imagej-rois", "object"),
    "ROIs of predict": (
        lambda root: write_rois(root, OUTPUTS["rois"].ending),
        "imagej-rois",
        "object",
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, tmp_path, run_images):
    write, format_, category = LAYOUTS[layout]
    (tmp_path / "source").mkdir()
    write(tmp_path / "source")
    found = run_images(tmp_path / "source")
    assert found.status == 0
    assert found.text.startswith(f"Format: {format_} (")
    assert len(found.objects) == (2 if layout.startswith("Cell Tracking") else 3)
    for stem in found.objects:
        np.testing.assert_array_equal(found.label_map(stem), truth())
        assert found.classes(stem) == [category] * 4
    assert set(found.splits) == {"train", "val"}


def test_a_session_that_would_run_code_is_refused(tmp_path, run_images):
    write_cellpose(tmp_path / "s")
    (tmp_path / "s" / "a_masks.png").unlink()
    np.save(tmp_path / "s" / "a_seg.npy", {"masks": Path("ran")})
    found = run_images(tmp_path / "s")
    assert found.status == 1
    assert "a_seg.npy: is a pickled file, which could run any code" in found.text


@pytest.mark.parametrize("number", [1, 255])
def test_masks_become_parts(number, tmp_path, run_images):
    write_masks(tmp_path / "source", number)
    found = run_images(tmp_path / "source", "--classes", "cell")
    assert found.text.startswith("Format: masks (images/ beside masks/, numbers of several")
    expected = truth()
    expected[expected == 2] = 0
    labels = found.label_map("a")
    assert ((labels > 0) == (expected > 0)).all()
    assert found.classes("a") == ["cell"] * 3
    unnamed = run_images(tmp_path / "source", name="unnamed")
    assert unnamed.classes("a") == ["object"] * 3
    fingerprint = json.loads((unnamed.folder / "fingerprint.json").read_text())
    assert list(fingerprint["diameter_px"]) == ["object"]


def test_masks_of_classes(tmp_path, run_images):
    save(tmp_path / "s" / "images" / "a.png", picture())
    save(tmp_path / "s" / "masks" / "a.png", np.minimum(truth(), 2).astype(np.uint8))
    found = run_images(tmp_path / "s", "--classes", "round", "long")
    assert found.classes("a") == ["round"] + ["long"] * 3
    assert run_images(tmp_path / "s", name="numbers").classes("a") == ["1"] + ["2"] * 3
    ghost = run_images(tmp_path / "s", "--classes", "round", "long", "ghost", name="ghost")
    assert "No object of the class ghost: left out." in ghost.text
    assert ghost.dataset["classes"] == ["long", "round"]


def test_hovernet_has_types(tmp_path, run_images):
    write_hovernet(tmp_path / "s")
    found = run_images(tmp_path / "s", "--classes", "epithelial", "other")
    assert found.classes("a") == ["epithelial", "other", "epithelial", "epithelial"]
    np.testing.assert_array_equal(found.label_map("a"), truth())
    assert run_images(tmp_path / "s", name="numbers").classes("a") == ["1", "2", "1", "1"]
    for stem in STEMS:
        savemat(tmp_path / "s" / "Labels" / f"{stem}.mat", {"inst_map": truth()})
    assert run_images(tmp_path / "s", name="untyped").classes("a") == ["object"] * 4


@pytest.mark.parametrize("distributed", [False, True])
def test_pannuke(distributed, tmp_path, run_images):
    images = np.stack([picture(seed) for seed in range(3)]).astype(float)
    masks = np.zeros((3, *SHAPE, 6))
    masks[..., 0] = np.where(truth() <= 2, truth(), 0) * 3  # Numbers need not begin at 1.
    masks[..., 4] = np.where(truth() > 2, truth(), 0)
    masks[..., 5] = truth() == 0
    for name, array in (("images", images), ("masks", masks)):
        folder = tmp_path / "s" / (f"Fold 1/{name}/fold1" if distributed else "")
        folder.mkdir(parents=True, exist_ok=True)
        np.save(folder / f"{name}.npy", array)
    found = run_images(tmp_path / "s")
    assert len(found.objects) == 3
    stem = min(found.objects)
    np.testing.assert_array_equal(found.label_map(stem), truth())
    assert found.classes(stem) == ["neoplastic"] * 2 + ["epithelial"] * 2
    stored = cv2.imread(str(found.folder / "images" / f"{stem}.png"))[:, :, ::-1]
    np.testing.assert_array_equal(stored, picture(0))


def test_tissuenet(tmp_path, run_images):
    labels = np.stack([truth(), np.where(truth() == 1, 1, 0)], axis=-1)
    pixels = 1000.0 * picture()[:, :, :2]
    for split, count in (("train", 2), ("val", 1)):
        arrays = {"X": np.stack([pixels] * count), "y": np.stack([labels] * count)}
        (tmp_path / "s").mkdir(exist_ok=True)
        np.savez(tmp_path / "s" / f"tissuenet_v1.1_{split}.npz", **arrays)
    found = run_images(tmp_path / "s")
    assert {split: len(names) for split, names in found.splits.items()} == {"train": 2, "val": 1}
    assert found.classes(found.splits["val"][0]) == ["cell"] * 4 + ["nucleus"]
    name = f"{found.splits['val'][0]}.png"
    stored = cv2.imread(str(found.folder / "images" / name), cv2.IMREAD_UNCHANGED)[:, :, ::-1]
    assert stored.dtype == np.uint16
    np.testing.assert_array_equal(stored[:, :, :2], np.minimum(pixels, 65535))


def test_a_circle_of_labelme(tmp_path, run_images):
    write_labelme(tmp_path / "s")
    for stem in STEMS[1:]:
        for path in (tmp_path / "s").glob(f"{stem}.*"):
            path.unlink()
    file = tmp_path / "s" / "a.json"
    content = json.loads(file.read_text())
    circle = {"label": "cell", "points": [[32, 24], [32, 34]], "shape_type": "circle"}
    file.write_text(json.dumps({**content, "shapes": [circle]}))
    ((_, mask),) = run_images(tmp_path / "s").objects["a"]
    assert mask.sum() == pytest.approx(np.pi * 100, rel=0.02)


def test_what_is_of_one_group_of_labelme_is_one_object(tmp_path, run_images):
    write_labelme(tmp_path / "s")
    overlapping = [[(4, 4), (14, 4), (14, 12), (4, 12)], [(10, 4), (22, 4), (22, 12), (10, 12)]]
    png = base64.b64encode(cv2.imencode(".png", np.ones((4, 4), np.uint8))[1]).decode()
    parts = [{"points": points, "shape_type": "polygon"} for points in overlapping]
    parts.append({"points": [[4, 12], [7, 15]], "shape_type": "mask", "mask": png})
    shapes = [{"label": "cell", "group_id": 1, **part} for part in parts]
    for stem in STEMS:
        file = tmp_path / "s" / f"{stem}.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"shapes": shapes}))
    ((_, mask),) = run_images(tmp_path / "s").objects["a"]
    expected = np.isin(truth(), (1, 2))
    expected[12:16, 4:8] = True
    np.testing.assert_array_equal(mask, expected)


def test_every_format_is_tested_and_documented(repository):
    text = (repository / "docs" / "how-to" / "import.md").read_text()
    tested = {format_ for _, format_, _ in LAYOUTS.values()}
    assert tested | {"masks", "hovernet", "pannuke", "tissuenet"} == set(FORMATS)
    assert [name for name in FORMATS if f"`{name}`" not in text] == []


def test_an_image_of_a_folder_of_splits(tmp_path, run_images):
    for split, stem in (("train", "a"), ("test", "b")):
        write_folders(tmp_path / split)
        shutil.move(tmp_path / split, tmp_path / "s" / split)
        for other in set(STEMS) - {stem}:
            for path in (tmp_path / "s" / split).rglob(f"{other}.png"):
                path.unlink()
    found = run_images(tmp_path / "s")
    # Without a validation, the test part is it.
    assert {split: len(names) for split, names in found.splits.items()} == {"train": 1, "val": 1}

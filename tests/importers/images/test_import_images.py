"""What holds for all formats: splits, odd and bad input, what is written, going on."""

import json
import shutil

import numpy as np
import pytest
from annotated_images import SHAPE, picture, save, truth
from detectron2.data import DatasetCatalog, MetadataCatalog

from unet_sharp_det.cli.import_ import main
from unet_sharp_det.data.folders import register_folders
from unet_sharp_det.errors import DatasetError, UserError
from unet_sharp_det.importers.images import FORMATS


def write(root, stems="abc", labels=None):
    for seed, stem in enumerate(stems):
        save(root / "images" / f"{stem}.png", picture(seed))
        save(root / "masks" / f"{stem}.png", truth() if labels is None else labels)
    return root


def test_a_data_set_is_known_by_being_there(tmp_path, run_images):
    source = write(tmp_path / "s", "abcdefgh")
    found = run_images(source)
    register_folders()
    records = DatasetCatalog.get("mine_train") + DatasetCatalog.get("mine_val")
    assert len(records) == 8
    assert all(len(record["annotations"]) == 4 for record in records)
    assert records[0]["look"] == "fluorescence"
    assert records[0]["file_name"].startswith(str(source))
    assert MetadataCatalog.get("mine_val").thing_classes == ["object"]
    assert found.text.count("objects.") == 2
    assert (found.folder / "preview.png").is_file()
    assert found.text.endswith("preview.png, then: unet-sharp-det fit mine --output run\n")


def test_a_damaged_data_set_stops_no_other(tmp_path, run_images, caplog):
    run_images(write(tmp_path / "s"))
    damaged = tmp_path / "datasets" / "damaged"
    damaged.mkdir()
    (damaged / "dataset.json").write_text('{"image_root": "images"}')
    register_folders()
    assert "damaged/dataset.json: lacks 'classes'" in caplog.text
    assert len(DatasetCatalog.get("mine_train")) == 2


def test_the_fingerprint(tmp_path, run_images):
    source = write(tmp_path / "s")
    for stem in "abc":
        save(source / "images" / f"{stem}.png", picture(ord(stem)) // np.array([1, 2, 3], "u1"))
    imported = run_images(source)
    found = json.loads((imported.folder / "fingerprint.json").read_text())
    assert len(imported.splits["train"]) == 2  # Of which the fingerprint is.
    areas = np.array([80, 64, 204, 64])
    assert found["objects"] == 8
    assert found["objects_per_image"]["largest"] == 4
    expected = np.median(np.tile(2 * np.sqrt(areas / np.pi), 3))
    assert found["diameter_px"]["object"]["q50"] == pytest.approx(expected, abs=0.05)
    assert found["image_sides_px"] == {
        "smallest": 48,
        "median": pytest.approx((48 * 64) ** 0.5),
        "largest": 64,
    }
    assert found["channels"] == [3]


def test_copies(tmp_path, run_images):
    source = write(tmp_path / "s")
    found = run_images(source, "--copy")
    shutil.rmtree(source)
    assert (found.folder / "images").is_dir()
    register_folders()
    assert len(DatasetCatalog.get("mine_train")) == len(found.splits["train"])


def test_copies_of_images_of_one_name(tmp_path, run_images):
    write(tmp_path / "s" / "train", ["a", "a_2"])
    source = write(tmp_path / "s" / "val", ["a"])
    save(source / "images" / "a.png", picture(7))
    found = run_images(tmp_path / "s", "--copy")
    files = list((found.folder / "images").iterdir())
    assert len(files) == 3
    assert len({path.read_bytes() for path in files}) == 3


@pytest.mark.parametrize("how", ["pattern", "table", "table without suffixes"])
def test_groups_stay_together(how, tmp_path, run_images):
    stems = [f"p{patient}_{number}.5um" for patient in range(12) for number in range(3)]
    source = write(tmp_path / "my_images", stems)
    group = "^[^_]+"
    if how.startswith("table"):
        group = str(tmp_path / "patients.csv")
        suffix = ".png" if how == "table" else ""
        rows = [f"{stem}{suffix},{stem.split('_')[0]}" for stem in stems]
        (tmp_path / "patients.csv").write_text("\n".join(rows))
    found = run_images(source, "--group", group)
    patients = {split: {s.split("_")[0] for s in names} for split, names in found.splits.items()}
    assert not patients["train"] & patients["val"]
    assert len(found.splits["train"]) + len(found.splits["val"]) == 36


@pytest.mark.parametrize("stems", ["ab", "ac", "bc", "abc", "cdf"])  # All hashes of cdf say val.
def test_of_two_or_three_images_one_is_of_validation(stems, tmp_path, run_images):
    found = run_images(write(tmp_path / "s", stems))
    assert {split: len(names) for split, names in found.splits.items()} == {
        "train": len(stems) - 1,
        "val": 1,
    }


@pytest.mark.parametrize("stem", "abc")
def test_one_image_is_of_training_and_what_it_lacks_is_said(stem, tmp_path, run_images):
    found = run_images(write(tmp_path / "s", stem))
    assert found.splits.keys() == {"train"}
    assert "import another image or group, too, or give --val: fit needs it" in found.text


def test_a_group_that_is_not_told(tmp_path, run_images):
    write(tmp_path / "s")
    with pytest.raises(DatasetError, match="says nothing of"):
        run_images(tmp_path / "s", "--group", r"p\d+")
    with pytest.raises(DatasetError, match="no regular expression"):
        run_images(tmp_path / "s", "--group", "(")
    (tmp_path / "latin.csv").write_bytes(b"a,M\xfcller")
    for name in ("none.csv", "latin.csv"):
        with pytest.raises(DatasetError, match=f"{name}: cannot be read .*CSV in UTF-8"):
            run_images(tmp_path / "s", "--group", str(tmp_path / name))


def test_a_folder_of_validation(tmp_path, run_images):
    write(tmp_path / "a", "ab")
    write(tmp_path / "b", "c")
    found = run_images(tmp_path / "a", "--val", str(tmp_path / "b"))
    assert [len(names) for names in found.splits.values()] == [2, 1]
    with pytest.raises(DatasetError, match="--val: there is no"):
        run_images(tmp_path / "a", "--val", str(tmp_path / "none"))


def test_what_cannot_be_used_is_left_out_and_named(tmp_path, run_images):
    source = write(tmp_path / "s", "abcdefg")
    (source / "masks" / "a.png").unlink()
    (source / "images" / "b.png").unlink()
    save(source / "masks" / "c.png", truth()[:-1])
    (source / "masks" / "d.png").unlink()
    save(source / "masks" / "d.jpg", 60 * truth().astype(np.uint8))
    save(
        source / "masks" / "e.png", np.repeat(truth()[:, :, None], 3, 2) * np.array([1, 2, 3], "u2")
    )
    (source / "images" / "f.png").write_bytes(b"no image")
    found = run_images(source)
    assert found.status == 1
    assert found.dataset["format"].startswith("label-maps")
    assert sum(map(len, found.splits.values())) == 1
    for part in (
        "a.png: has no annotation",
        "there is no image 'b'",
        "has (height, width) (47, 64), but its image has (48, 64)",
        "is a JPEG, which changes numbers",
        "a label map has one number per pixel",
        "f.png",
    ):
        assert part in found.text, part


def test_masks_where_numbers_are_expected(tmp_path, run_images):
    source = write(tmp_path / "s", labels=(255 * (truth() > 0)).astype(np.uint8))
    with pytest.raises(
        DatasetError, match="holds only 0 and 255, in several parts.*--format masks"
    ):
        run_images(source, "--format", "label-maps")


def test_oddities_are_counted(tmp_path, run_images):
    labels = truth()
    labels[20:22, 2:4] = 5  # 4 pixels
    labels[26:40, 2:16] = 6
    labels[30:33, 6:9] = 0  # a hole
    labels[44:47, 20:23] = 6  # another part
    source = write(tmp_path / "s", "ab", labels)
    save(source / "images" / "b.png", picture(0))
    save(source / "images" / "c.png", picture(2))
    save(source / "masks" / "c.png", np.zeros(SHAPE, np.uint16))
    found = run_images(source)
    assert found.status == 0
    for line in ("1 x no objects", "2 x several parts", "2 x holes", "2 x under 16 pixels"):
        assert f"{line}:" in found.text
    assert "1 x same image twice" in found.text
    with pytest.raises(DatasetError, match="--strict: nothing was written.*2 x holes"):
        run_images(source, "--strict", name="other")
    assert not (tmp_path / "datasets" / "other").exists()


def test_empty_and_repeated_masks_are_left_out(tmp_path, run_images):
    folder = tmp_path / "s" / "a"
    save(folder / "images" / "a.png", picture())
    for name, mask in (("1", truth() == 1), ("2", truth() == 1), ("3", truth() > 9)):
        save(folder / "masks" / f"{name}.png", 255 * mask.view(np.uint8))
    found = run_images(tmp_path / "s")
    assert len(found.objects["a"]) == 1
    assert "1 x empty mask" in found.text
    assert "1 x same mask twice" in found.text


def test_an_outline_out_of_its_image(tmp_path, run_images):
    ring = [[100, 100], [110, 100], [110, 110], [100, 100]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    for stem in "ab":
        save(tmp_path / "s" / f"{stem}.png", picture())
        features = [{"type": "Feature", "geometry": geometry}] if stem == "a" else []
        content = {"type": "FeatureCollection", "features": features}
        (tmp_path / "s" / f"{stem}.geojson").write_text(json.dumps(content))
    with pytest.raises(DatasetError, match="no object that can be used.*lies out of its image"):
        run_images(tmp_path / "s")


BROKEN = {
    "a.json": [
        '{"shapes": [7]}',
        '{"shapes": null}',
        '{"shapes": [{"label": [], "points": [[]]}]}',
    ],
    "a.geojson": [f'{{"features": [{{"geometry": {part}}}]}}' for part in ("7", '{"type": []}')],
    "a.xml": ["<Vertex"],
    "a.roi": ["Iout"],
    "a.mat": ["MATLAB"],
}


@pytest.mark.parametrize("name", BROKEN)
def test_annotations_of_any_content_are_left_out_and_named(name, tmp_path, run_images):
    save(tmp_path / "a.png", picture())
    for text in BROKEN[name]:
        (tmp_path / name).write_text(text)
        with pytest.raises(DatasetError, match="first: a: .*cannot be read.* Export them again"):
            run_images(tmp_path)


def test_what_is_wrong_with_an_image_of_coco(tmp_path, run_images):
    content = {"categories": [{"id": 1, "name": "cell"}], "images": [], "annotations": []}
    for number, name in enumerate(("a.png", 250 * "a" + ".png.png", "b.png", "c.png")):
        size = {"height": SHAPE[0], "width": SHAPE[1]}
        content["images"].append({"id": number, "file_name": name, **size})
        ring = {"segmentation": [[1, 1, 9, 1, 9, 9]], "iscrowd": "x" if name == "b.png" else 0}
        content["annotations"].append({"id": number, "image_id": number, "category_id": 1, **ring})
    for name in ("b.png", "c.png"):
        save(tmp_path / name, picture())
    (tmp_path / "all.json").write_text(json.dumps(content))
    found = run_images(tmp_path)
    assert list(found.objects) == ["c"]
    for part in ("no image 'a.png' below", "no image 'aaaa", "b: its annotations cannot be read"):
        assert part in found.text


def test_several_formats_and_none(tmp_path, run_images):
    source = write(tmp_path / "s")
    with pytest.raises(DatasetError, match="is of no format that is known") as caught:
        run_images(source / "images")
    assert [line.split()[0] for line in caught.value.details] == list(FORMATS)
    (source / "a.geojson").write_text('{"features": []}')
    with pytest.raises(DatasetError, match="several formats: label-maps .*; geojson"):
        run_images(source)
    with pytest.raises(UserError, match="Did you mean 'label-maps'"):
        run_images(source, "--format", "labelmaps")
    with pytest.raises(DatasetError, match="There is no"):
        run_images(tmp_path / "none")


def test_a_file_of_no_format_among_others(tmp_path, run_images):
    source = tmp_path / "s"
    for place in (source, write(source / "train", "ab"), write(source / "val", "c")):
        (place / "settings.json").write_text("{// of a program")
    assert {split: len(names) for split, names in run_images(source).splits.items()} == {
        "train": 2,
        "val": 1,
    }
    shutil.rmtree(source / "train" / "masks")
    shutil.rmtree(source / "val" / "masks")
    with pytest.raises(DatasetError, match="settings.json: is not JSON"):
        run_images(source)


def test_a_file_in_the_place_of_a_folder(tmp_path, run_images):
    source = write(tmp_path / "s")
    image = source / "images" / "a.png"
    with pytest.raises(DatasetError, match="a.png: is a file, but label-maps takes a folder"):
        run_images(image, "--format", "label-maps")
    with pytest.raises(DatasetError, match="a.png: is a file"):
        run_images(source, "--val", str(image))


def test_options_of_other_formats(tmp_path):
    write(tmp_path / "s")
    with pytest.raises(UserError, match="--labels is no option of images"):
        main([str(tmp_path / "s"), "--labels", "a"])
    with pytest.raises(UserError, match="--group is no option of lits17"):
        main([str(tmp_path / "s"), "--format", "lits17", "--group", "a"])


def test_an_import_that_was_interrupted_is_done_again(tmp_path, run_images, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("unet_sharp_det.importers.images.write.montage", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run_images(write(tmp_path / "s"), "--copy")
    assert sum(map(len, run_images(tmp_path / "s", "--copy").splits.values())) == 3


def test_another_source_is_refused_and_the_same_one_is_not(tmp_path, run_images):
    first, second = write(tmp_path / "a"), write(tmp_path / "b")
    run_images(first)
    write(tmp_path / "a", "defg")
    assert sum(map(len, run_images(first).splits.values())) == 7
    with pytest.raises(DatasetError, match="was imported as .*Give another --name"):
        run_images(second)
    (tmp_path / "datasets" / "own").mkdir()
    (tmp_path / "datasets" / "own" / "thesis.tex").write_text("")
    with pytest.raises(DatasetError, match="holds files of another origin"):
        run_images(first, name="own")

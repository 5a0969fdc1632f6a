"""OME-Zarr of either version gives the pixels, planes, names and sizes that were written."""

import json
import pickle
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pytest
from image_files import noise, read, refusal, whole
from yaozarrs import v05
from yaozarrs.write.v05 import write_bioformats2raw, write_plate
from zarr_files import describe, levels, write_v04, write_v05, zarr

from unet_sharp_det.errors import UserError
from unet_sharp_det.images.decoding import read_image
from unet_sharp_det.images.ome_zarr import address_of, zarr_stamp
from unet_sharp_det.images.source import ReadOptions, open_image

WRITERS = pytest.mark.parametrize("write", [write_v04, write_v05])


@WRITERS
class TestImage:
    def test_windows_of_planes(self, write, tmp_path):
        array = noise(2, 3, 45, 70, dtype="uint16")
        path = write(
            tmp_path / "a.zarr",
            array,
            "czyx",
            chunks=(1, 1, 16, 32),
            scale=[1, 2, 0.5, 0.25],
            labels=("DAPI", "GFP"),
        )
        planes = open_image(path, ReadOptions(channels=("gfp",)))
        assert [plane.name for plane in planes] == [f"a.zarr[z={z}]" for z in range(3)]
        assert [plane.suffix for plane in planes] == ["_z000", "_z001", "_z002"]
        assert planes[0].pixel_size == (0.5, 0.25)
        assert planes[0].channel_names == ("DAPI", "GFP")
        window = planes[2].window(slice(10, 40), slice(5, 69))
        np.testing.assert_array_equal(window[:, :, 0], array[1, 2, 10:40, 5:69])
        everything = whole(planes[2].with_all_channels())
        np.testing.assert_array_equal(everything, array[:, 2].transpose(1, 2, 0))

    def test_only_chunks_of_the_window_are_read(self, write, tmp_path):
        path = write(tmp_path / "a.zarr", noise(64, 64), chunks=(16, 16))
        (source,) = open_image(path)
        for chunk in (path / "0").rglob("3"):
            if chunk.is_file():
                chunk.write_bytes(b"damaged")
        source.window(slice(0, 16), slice(0, 48))
        with pytest.raises(UserError, match="a.zarr/0: cannot be decoded"):
            source.window(slice(0, 16), slice(0, 64))

    @pytest.mark.parametrize(
        ("unit", "size"),
        [("nanometer", 5e-4), ("millimeter", 500.0), (None, None)],
    )
    def test_pixel_size_in_micrometres(self, write, unit, size, tmp_path):
        path = write(tmp_path / "a.zarr", noise(8, 9), scale=[0.5, 0.5], unit=unit)
        (source,) = open_image(path)
        assert source.pixel_size == (size and pytest.approx((size, size)))

    @pytest.mark.parametrize("dtype", ["bool", "uint8", ">u2", "int16", "float32"])
    def test_types(self, write, dtype, tmp_path):
        array = noise(20, 30, dtype=np.dtype(dtype).newbyteorder("=")).astype(dtype)
        (pixels,) = read(write(tmp_path / "a.zarr", array))
        assert pixels.dtype.isnative
        expected = array * np.uint8(255) if dtype == "bool" else array
        np.testing.assert_array_equal(pixels[:, :, 0], expected)

    def test_three_channels_are_rgb(self, write, tmp_path):
        array = noise(3, 20, 30)
        path = write(tmp_path / "a.zarr", array, "cyx")
        np.testing.assert_array_equal(read_image(path, "RGB"), array.transpose(1, 2, 0))

    def test_refusals(self, write, tmp_path):
        path = write(tmp_path / "a.zarr", noise(20, 30))
        assert "chunk has 20 x 30 pixels" in refusal(path, max_pixels=599)
        assert "no --series 1" in refusal(path, series=1)
        assert "Zarr, but no image" in refusal(path / "0") + refusal_of_group(tmp_path)
        numbers = write(tmp_path / "b.zarr", noise(20, 30).astype(complex))
        assert "values of type complex128 cannot be read" in refusal(numbers)


def refusal_of_group(folder):
    zarr.open_group(str(folder / "c.zarr"), mode="w")
    return refusal(folder / "c.zarr")


def test_sizes_of_all_levels_multiply(tmp_path):
    path = write_v05(tmp_path / "a.zarr", noise(8, 9), scale=[0.5, 0.25])
    group = zarr.open_group(str(path))
    ome = group.attrs["ome"]
    steps = [{"type": "scale", "scale": [10.0, 2.0]}]
    ome["multiscales"][0]["coordinateTransformations"] = steps
    group.attrs["ome"] = ome
    assert open_image(path)[0].pixel_size == (5.0, 0.5)


def test_fields_of_a_plate(tmp_path):
    arrays = {key: noise(20, 30, seed=k) for k, key in enumerate(["A/1/0", "A/1/1", "B/2/0"])}
    images = {tuple(k.split("/")): (describe(v05, "yx"), levels(a)) for k, a in arrays.items()}
    path = write_plate(tmp_path / "p.zarr", images, writer="zarr")
    fields = open_image(path)
    assert [field.name for field in fields] == [f"p.zarr/{key}" for key in arrays]
    assert [field.suffix for field in fields] == ["_A_1_0", "_A_1_1", "_B_2_0"]
    for field, array in zip(fields, arrays.values(), strict=True):
        np.testing.assert_array_equal(whole(field)[:, :, 0], array)
    assert [field.suffix for field in open_image(path / "A" / "1")] == ["_0", "_1"]
    assert [field.suffix for field in open_image(path / "A" / "1" / "0")] == [""]


def test_a_plate_names_nothing_outside_of_itself(tmp_path):
    image = {("A", "1", "0"): (describe(v05, "yx"), levels(noise(8, 9)))}
    path = write_plate(tmp_path / "p.zarr", image, writer="zarr")
    file = path / "A" / "1" / "zarr.json"
    file.write_text(file.read_text().replace('"path": "0"', '"path": "../../../secret.zarr"'))
    assert "cannot be read as OME-Zarr" in refusal(path)


def test_an_image_names_nothing_outside_of_itself(tmp_path):
    write_v05(tmp_path / "secret.zarr", noise(8, 9))
    path = write_v05(tmp_path / "a.zarr", noise(8, 9))
    file = path / "zarr.json"
    file.write_text(file.read_text().replace('"path": "0"', '"path": "../secret.zarr/0"'))
    assert "cannot be read as OME-Zarr" in refusal(path)


@pytest.mark.parametrize("axes", [None, ["y", "x"]], ids=["0.1 and 0.2", "0.3"])
def test_versions_before_0_4_are_to_be_converted(axes, tmp_path):
    path = write_v04(tmp_path / "a.zarr", noise(8, 9))
    content = json.loads((path / ".zattrs").read_text())
    (multiscale,) = content["multiscales"]
    del multiscale["axes"]
    multiscale |= {"axes": axes} if axes else {}
    (path / ".zattrs").write_text(json.dumps(content))
    assert refusal(path).endswith(
        "as OME-Zarr before 0.4. Convert it to 0.4 or 0.5, e.g. by ngff-zarr."
    )


@pytest.mark.parametrize("has_group", [True, False])
def test_series_of_bioformats2raw(has_group, tmp_path):
    arrays = [noise(20, 30, seed=seed) for seed in range(3)]
    images = {str(k): (describe(v05, "yx"), levels(a)) for k, a in enumerate(arrays)}
    path = write_bioformats2raw(tmp_path / "a.zarr", images, writer="zarr")
    if not has_group:
        (path / "OME" / "zarr.json").unlink()
    assert open_image(path)[0].series_count == 3
    np.testing.assert_array_equal(read(path, series=2)[0][:, :, 0], arrays[2])
    assert "Choose one of 0 to 2" in refusal(path, series=3)


@pytest.mark.parametrize("protocol", ["file", "memory"])
@pytest.mark.parametrize("kind", [str, Path])
def test_addresses(protocol, kind, tmp_path):
    array = noise(20, 30)
    path = write_v05(tmp_path / "a.zarr", array)
    address = f"{protocol}://{path}"
    if protocol == "memory":
        fsspec.filesystem("memory").put(str(path), str(path), recursive=True)
    assert address_of(Path(address)).endswith(f"{path}")
    (source,) = open_image(kind(address))
    assert source.name == "a.zarr"
    np.testing.assert_array_equal(whole(source)[:, :, 0], array)
    assert int(zarr_stamp(address).partition("-")[0]) > 0
    assert zarr_stamp(f"{address}.gone.zarr") == ""


def test_an_address_that_cannot_be_reached_is_a_users_error():
    assert "cannot be read as OME-Zarr" in refusal("memory://nothing/a.zarr")
    assert "nosuch" in refusal("nosuch://bucket/a.zarr")
    assert zarr_stamp("nosuch://bucket/a.zarr") == ""


class Bomb:
    def __reduce__(self):
        return exec, ("raise KeyboardInterrupt",)


@pytest.mark.parametrize("place", ["compressor", "filters"])
def test_no_code_in_chunks_is_run(place, tmp_path):
    path = write_v04(tmp_path / "a.zarr", noise(8, 9))
    file = path / "0" / ".zarray"
    codec = {"id": "pickle"}
    content = {**json.loads(file.read_text()), "compressor": None}
    file.write_text(json.dumps({**content, place: codec if place == "compressor" else [codec]}))
    (path / "0" / "0" / "0").write_bytes(pickle.dumps(Bomb()))
    assert "cannot be" in refusal(path)


@WRITERS
def test_the_stamp_changes_with_the_image(write, tmp_path):
    pixels = noise(64, 64)
    pixels[48:] = 0  # which takes no chunks
    path = write(tmp_path / "a.zarr", pixels, chunks=(16, 16))
    stamps = [zarr_stamp(path), zarr_stamp(path)]
    array = zarr.open_array(str(path / "0"), mode="r+")
    array.attrs["changed"] = True
    stamps.append(zarr_stamp(path))
    array[48:] = 1
    stamps.append(zarr_stamp(path))
    assert stamps[0] == stamps[1]
    assert len(set(stamps)) == 3


def test_other_images_do_not_import_zarr(tmp_path, write_png):
    path = write_png(tmp_path / "a.png", noise(8, 9))
    code = (
        "import sys; from unet_sharp_det.images import open_image; "
        f"open_image({str(path)!r}); print({{'zarr', 'fsspec'}} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_without_the_package_the_command_is_named(tmp_path, monkeypatch):
    path = write_v05(tmp_path / "a.zarr", noise(8, 9))
    monkeypatch.setitem(sys.modules, "zarr", None)
    assert refusal(path).endswith("Run: pip install 'unet_sharp_det[zarr]'")

"""Planes, channels, series and pixel sizes of files that hold more than one image."""

import numpy as np
import pytest
import tifffile
from image_files import GRAY, noise, whole, write

from unet_sharp_det.errors import UserError
from unet_sharp_det.images.source import ChannelsError, ReadOptions, open_image


def stack(*shape):
    return noise(*shape, dtype="uint16")


Z5, C3Z5 = stack(5, 40, 60), stack(5, 3, 40, 60)
PAGES = {"metadata": None, "photometric": "minisblack"}
OME = {"ome": True, "compression": "zlib"}
# settings of the file, options, plane number, its name, suffix, pixels (H, W) or (H, W, C)
PLANES = {
    "pages without names": (Z5, {"metadata": None}, {}, 3, "[page=3]", "_page003", Z5[3]),
    "three pages are planes": (Z5[:3], PAGES, {}, 1, "[page=1]", "_page001", Z5[1]),
    "three pages as channels": (
        *(Z5[:3], {**PAGES, "compression": "zlib"}, {"channel_axis": 0}),
        *(0, "", "", Z5[:3].transpose(1, 2, 0)),
    ),
    "OME z": (Z5, {**OME, "metadata": {"axes": "ZYX"}}, {}, 4, "[z=4]", "_z004", Z5[4]),
    "OME z and channels": (
        *(C3Z5, {**OME, "metadata": {"axes": "ZCYX"}}, {}),
        *(2, "[z=2]", "_z002", C3Z5[2].transpose(1, 2, 0)),
    ),
    "OME z and RGB": (
        *(stack(2, 40, 60, 3), {**OME, "metadata": {"axes": "ZYXS"}, "photometric": "rgb"}, {}),
        *(1, "[z=1]", "_z001", stack(2, 40, 60, 3)[1]),
    ),
    "ImageJ hyperstack": (
        *(C3Z5, {"imagej": True, "metadata": {"axes": "ZCYX"}}, {"channels": (2, 0, 0)}),
        *(1, "[z=1]", "_z001", C3Z5[1, [2, 0, 0]].transpose(1, 2, 0)),
    ),
    "ImageJ times": (
        *(C3Z5, {"imagej": True, "metadata": {"axes": "TZYX"}}, {}),
        *(4, "[t=1,z=1]", "_t001_z001", C3Z5[1, 1]),
    ),
    "maximum of z": (
        *(C3Z5, {**OME, "metadata": {"axes": "TZYX"}}, {"planes": "max"}),
        *(3, "[t=3,z=max]", "_t003_zmax", C3Z5[3].max(axis=0)),
    ),
    "maximum of t": (
        *(C3Z5, {**OME, "metadata": {"axes": "TZYX"}}, {"planes": "max", "plane_axis": "t"}),
        *(2, "[t=max,z=2]", "_tmax_z002", C3Z5[:, 2].max(axis=0)),
    ),
    "chosen planes": (
        *(Z5, {**OME, "metadata": {"axes": "ZYX"}}, {"planes": (4, 1)}),
        *(1, "[z=1]", "_z001", Z5[1]),
    ),
    "channels as planes": (
        *(Z5, {**OME, "metadata": {"axes": "CYX"}}, {"plane_axis": "C"}),
        *(2, "[c=2]", "_c002", Z5[2]),
    ),
    "an array saved as thin pages": (
        *(stack(40, 60, 3), {"photometric": "minisblack"}, {}),
        *(0, "", "", stack(40, 60, 3)),
    ),
    "five channels last": (
        *(stack(40, 60, 5), {"photometric": "minisblack"}, {"channels": (4,)}),
        *(0, "", "", stack(40, 60, 5)[:, :, 4]),
    ),
    "ten channels last in a stack": (
        *(stack(3, 40, 60, 10), {"photometric": "minisblack"}, {"channels": (7,)}),
        *(1, "[page=1]", "_page001", stack(3, 40, 60, 10)[1, :, :, 7]),
    ),
    "narrow pages are planes": (
        *(stack(9, 60, 5), {"photometric": "minisblack"}, {}),
        *(3, "[page=3]", "_page003", stack(9, 60, 5)[3]),
    ),
    "channels last by option": (
        *(stack(40, 60, 20), {"photometric": "minisblack"}, {"channel_axis": -1, "channels": (5,)}),
        *(0, "", "", stack(40, 60, 20)[:, :, 5]),
    ),
    "a volume in 3D tiles": (
        *(stack(20, 40, 60), {"tile": (16, 16, 16), "compression": "zlib"}, {}),
        *(17, "[z=17]", "_z017", stack(20, 40, 60)[17]),
    ),
}


@pytest.mark.parametrize("case", PLANES)
def test_planes_of_stacks(tmp_path, case):
    array, settings, options, number, name, suffix, expected = PLANES[case]
    path = write(
        tmp_path / "a.ome.tif" if "ome" in settings else tmp_path / "a.tif", array, **settings
    )
    source = open_image(path, ReadOptions(**options))[number]
    assert (source.name, source.suffix) == (path.name + name, suffix)
    expected = expected.reshape(*expected.shape[:2], -1)
    assert (*source.shape, source.channels) == expected.shape
    assert (whole(source) == expected).all()
    assert (source.window(slice(7, 31), slice(9, 50)) == expected[7:31, 9:50]).all()


def test_what_is_read_of_a_file_is_known(tmp_path):
    path = write(tmp_path / "a.tif", C3Z5, imagej=True, metadata={"axes": "ZCYX"})
    source = open_image(path, ReadOptions(channels=(2, 0, 0), planes=(3,)))[0]
    assert (source.place, source.channel_numbers) == ({"z": 3}, (2, 0, 0))
    assert open_image(path, ReadOptions(planes="max"))[0].place == {"z": None}
    assert open_image(path)[1].channel_numbers == (0, 1, 2)
    path = write(tmp_path / "b.tif", C3Z5, imagej=True, metadata={"axes": "TZYX"})
    assert open_image(path)[7].place == {"t": 2, "z": 1}
    source = open_image(write(tmp_path / "c.tif", Z5, **PAGES))[4]
    assert (source.place, source.series_count) == ({"page": 4}, 1)
    assert open_image(write(tmp_path / "d.tif", noise(*GRAY)))[0].place == {}


def test_channels_are_offered_by_name(tmp_path):
    about = {"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}}
    path = write(tmp_path / "a.ome.tif", noise(2, *GRAY), metadata=about)
    with pytest.raises(ChannelsError, match="Choose of 0 DAPI, 1 GFP with --channels"):
        open_image(path)
    (source,) = open_image(path, ReadOptions(channels=("gfp",)))
    assert source.channel_numbers == (1,)
    assert source.channel_names == ("DAPI", "GFP")
    with pytest.raises(UserError, match="--channels RFP: it has 2 channels: 0 DAPI, 1 GFP"):
        open_image(path, ReadOptions(channels=("RFP",)))
    path = write(tmp_path / "b.tif", noise(*GRAY, 4), photometric="rgb", extrasamples=[2])
    with pytest.raises(UserError, match="DAPI: it has 4 channels: 0, 1, 2, 3."):
        open_image(path, ReadOptions(channels=("DAPI",)))


def test_the_number_of_planes(tmp_path):
    path = write(tmp_path / "a.tif", C3Z5, imagej=True, metadata={"axes": "TZYX"})
    assert len(open_image(path)) == 15
    assert len(open_image(path, ReadOptions(planes="max"))) == 5
    assert len(open_image(path, ReadOptions(planes=(2, 0), plane_axis="T"))) == 6
    assert len(open_image(write(path, noise(*GRAY)), ReadOptions(planes="max"))) == 1


def test_other_series_and_the_full_resolution_of_a_pyramid(tmp_path):
    path, array = tmp_path / "a.ome.tif", noise(128, 96, 3)
    with tifffile.TiffWriter(path, ome=True) as writer:
        shared = {"tile": (32, 32), "compression": "zlib", "photometric": "rgb"}
        writer.write(array, subifds=2, **shared)
        writer.write(array[::2, ::2], subfiletype=1, **shared)
        writer.write(array[::4, ::4], subfiletype=1, **shared)
        writer.write(noise(20, 30))
    (source,) = open_image(path)
    assert (whole(source) == array).all()
    assert source.series_count == 2
    (source,) = open_image(path, ReadOptions(series=1))
    assert (whole(source)[:, :, 0] == noise(20, 30)).all()
    assert source.series_count == 2
    with pytest.raises(UserError, match=r"no --series 2.*0 to 1"):
        open_image(path, ReadOptions(series=2))


WRONG_OPTIONS = [
    ((5, 40, 60), "CYX", {}, r"has 5 channels.*--channels"),
    ((2, 40, 60), "CYX", {}, r"has 2 channels.*--channels"),
    ((4, 40, 60), "CYX", {}, r"has 4 channels.*--channels"),
    ((5, 40, 60), "CYX", {"channels": (5,)}, r"--channels 5.*5 channels: 0, 1, 2, 3, 4."),
    ((5, 40, 60), "CYX", {"channels": (0, 1)}, r"one channel, or three"),
    ((5, 40, 60), "ZYX", {"channels": (1,)}, r"--channels 1.*1 channel: 0."),
    ((5, 40, 60), "ZYX", {"planes": (5,)}, r"--planes 5.*0 to 4"),
    ((5, 40, 60), "ZYX", {"planes": ()}, r"--planes \(none\)"),
    ((5, 40, 60), "ZYX", {"planes": "mean"}, r"all, max, or numbers"),
    (
        (5, 40, 60),
        "ZYX",
        {"channel_axis": "Q"},
        r"--channel-axis Q is not.*0: Z \(5\), 1: Y \(40\)",
    ),
    ((5, 40, 60), "ZYX", {"channel_axis": 3}, r"--channel-axis 3 is not one of its axes"),
    ((5, 40, 60), "ZYX", {"channel_axis": 0, "plane_axis": "z"}, r"are the same axis"),
    ((2, 3, 40, 60), "TCYX", {"channel_axis": "C", "planes": (2,)}, r"--planes 2.*0 to 1"),
    ((40, 60), "YX", {"planes": (1,)}, r"--planes 1.*0 to 0"),
    ((40, 60), "YX", {"plane_axis": "Y"}, r"no two axes are left"),
]


@pytest.mark.parametrize(("shape", "axes", "options", "message"), WRONG_OPTIONS)
def test_options_that_do_not_fit_say_what_there_is(tmp_path, shape, axes, options, message):
    path = write(tmp_path / "a.ome.tif", noise(*shape), ome=True, metadata={"axes": axes})
    with pytest.raises(UserError, match=message):
        open_image(path, ReadOptions(**options))


def test_two_axes_of_planes_need_a_name(tmp_path):
    path = write(tmp_path / "a.tif", noise(2, 3, 40, 60), photometric="minisblack")
    with pytest.raises(UserError, match=r"so --planes needs --plane-axis.*0: Q \(2\), 1: Q \(3\)"):
        open_image(path, ReadOptions(planes="max"))
    with pytest.raises(UserError, match="names several axes; give an index"):
        open_image(path, ReadOptions(plane_axis="Q"))
    (first, _, _) = open_image(path, ReadOptions(planes="max", plane_axis=0))
    assert first.suffix == "_pagemax_page000"


@pytest.mark.parametrize(
    ("shape", "settings", "total"),
    [
        ((40, 60), {}, 1),
        ((40, 60, 3), {"photometric": "rgb"}, 3),
        ((40, 60, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}, 3),
        ((40, 60, 2), {"photometric": "minisblack", "extrasamples": ["unassalpha"]}, 1),
        ((40, 60, 5), {"photometric": "minisblack", "planarconfig": "contig"}, 5),
        ((2, 40, 60), {"ome": True, "metadata": {"axes": "CYX"}}, 2),
        ((3, 5, 40, 60), {"ome": True, "metadata": {"axes": "ZCYX"}}, 5),
        ((40, 60), {"photometric": "palette", "colormap": noise(3, 256, dtype="uint16")}, 3),
    ],
)
def test_all_channels_are_counted_whichever_are_read(tmp_path, shape, settings, total):
    path = write(tmp_path / "a.tif", noise(*shape), **settings)
    source = open_image(path, ReadOptions(channels=(0,)))[0]
    assert (source.channels, source.total_channels) == (1, total)
    if total in (1, 3):
        source = open_image(path)[0]
        assert (source.channels, source.total_channels) == (total, total)


UM = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 0.5}
PHILIPS = """<?xml version="1.0" encoding="UTF-8" ?><DataObject ObjectType="DPUfsImport">
<Attribute Name="PIM_DP_SCANNED_IMAGES" Group="0x301D" Element="0x1003" PMSVR="IDataObjectArray">
<Array>
  <DataObject ObjectType="DPScannedImage">
    <Attribute Name="PIM_DP_IMAGE_TYPE" PMSVR="IString">MACROIMAGE</Attribute>
    <Attribute Name="DICOM_PIXEL_SPACING" PMSVR="IDoubleArray">"0.1" "0.1"</Attribute>
  </DataObject>
  <DataObject ObjectType="DPScannedImage">
    <Attribute Name="PIIM_PIXEL_DATA_REPRESENTATION_SEQUENCE" PMSVR="IDataObjectArray"><Array>
      <DataObject ObjectType="PixelDataRepresentation">
        <Attribute Name="DICOM_PIXEL_SPACING" PMSVR="IDoubleArray">"0.0006" "0.0006"</Attribute>
      </DataObject>
    </Array></Attribute>
    <Attribute Name="DICOM_PIXEL_SPACING" PMSVR="IDoubleArray">"0.0005" "0.00025"</Attribute>
    <Attribute Name="PIM_DP_IMAGE_TYPE" PMSVR="IString">WSI</Attribute>
  </DataObject>
</Array></Attribute></DataObject>"""  # rows, columns in millimetres

PIXEL_SIZES = {
    "OME um": ({"ome": True, "metadata": UM}, (0.5, 0.25)),
    "OME nm": (
        *({"ome": True, "metadata": {**UM, "PhysicalSizeXUnit": "nm", "PhysicalSizeYUnit": "mm"}},),
        (500.0, 0.00025),
    ),
    "OME pixels": (
        {"ome": True, "metadata": {**UM, "PhysicalSizeXUnit": "pixel"}},
        None,
    ),
    "OME none": ({"ome": True}, None),
    "ImageJ micron": (
        {"imagej": True, "resolution": (4, 2), "metadata": {"unit": "micron"}},
        (0.5, 0.25),
    ),
    "ImageJ yunit": (
        {"imagej": True, "resolution": (2, 0.002), "metadata": {"unit": "um", "yunit": "nm"}},
        (0.5, 0.5),
    ),
    "ImageJ inch of a scanner": (
        {"imagej": True, "resolution": (25400, 12700), "metadata": {"unit": "inch"}},
        (2.0, 1.0),
    ),
    "ImageJ pixel": ({"imagej": True, "resolution": (1, 1), "metadata": {"unit": "pixel"}}, None),
    "ImageJ inch": ({"imagej": True, "resolution": (72, 72), "metadata": {"unit": "inch"}}, None),
    "inch": ({"resolution": (72, 72), "resolutionunit": "inch"}, None),
    "cm": ({"resolution": (40000, 20000), "resolutionunit": "centimeter"}, None),
    "NDPI": (
        {
            "resolution": (40000, 20000),
            "resolutionunit": "centimeter",
            "extratags": [(65420, "I", 1, 1, True), (271, "s", 0, "Hamamatsu", True)],
        },
        (0.5, 0.25),
    ),
    "Philips": (
        {"software": "Philips DP v1.0", "description": PHILIPS, "metadata": None, "tile": (16, 16)},
        (0.5, 0.25),
    ),
    "nothing": ({}, None),
}


@pytest.mark.parametrize("name", PIXEL_SIZES)
def test_pixel_size(tmp_path, name):
    settings, expected = PIXEL_SIZES[name]
    (source,) = open_image(write(tmp_path / "a.tif", noise(*GRAY), **settings))
    assert source.pixel_size == (expected and pytest.approx(expected))


@pytest.mark.parametrize(
    ("unit", "micrometres"),
    [
        *(("m", 1e6), ("cm", 1e4), ("mm", 1e3), ("µm", 1), ("nm", 1e-3), ("pm", 1e-6)),
        *(("Å", 1e-4), ("in", 25400)),
    ],
)
def test_units_of_length(tmp_path, unit, micrometres):
    sizes = {"PhysicalSizeX": 2, "PhysicalSizeY": 3}
    sizes |= {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    (source,) = open_image(write(tmp_path / "a.ome.tif", noise(*GRAY), metadata=sizes))
    assert source.pixel_size == pytest.approx((3 * micrometres, 2 * micrometres))
    unit = unit.replace("µ", "\\u00B5")
    if unit.isascii():
        settings = {"imagej": True, "resolution": (0.5, 0.25), "metadata": {"unit": unit}}
        (source,) = open_image(write(tmp_path / "a.tif", noise(*GRAY), **settings))
        assert source.pixel_size == pytest.approx((4 * micrometres, 2 * micrometres))


def test_a_unit_that_is_not_known_is_named(tmp_path, caplog):
    settings = {"imagej": True, "resolution": (2, 2), "metadata": {"unit": "furlong"}}
    (source,) = open_image(write(tmp_path / "a.tif", noise(*GRAY), **settings))
    assert source.pixel_size is None
    assert "'furlong', is not known" in caplog.text


def test_pixel_size_of_lsm(tmp_path):
    info = np.zeros((), [(name, f"<{kind}") for name, kind in tifffile.TIFF.CZ_LSMINFO])
    values = {"MagicNumber": 67127628, "StructureSize": info.nbytes}
    values |= {"DimensionY": GRAY[0], "DimensionX": GRAY[1]}
    values |= {"VoxelSizeY": 0.5e-6, "VoxelSizeX": 0.25e-6}  # metres
    values |= {f"Dimension{name}": 1 for name in ("Z", "Channels", "Time")}
    for name, value in values.items():
        info[name] = value
    tag = (34412, "B", info.nbytes, info.tobytes(), True)
    with tifffile.TiffWriter(tmp_path / "a.lsm") as writer:
        writer.write(noise(*GRAY), extratags=[tag], metadata=None)
        writer.write(noise(9, 9), subfiletype=1, metadata=None)  # its thumbnail
    (source,) = open_image(tmp_path / "a.lsm")
    assert source.pixel_size == pytest.approx((0.5, 0.25))
    assert source.series_count == 1
    assert (whole(source)[:, :, 0] == noise(*GRAY)).all()

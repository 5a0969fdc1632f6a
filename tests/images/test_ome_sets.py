"""OME-TIFF sets of several files: each file gives its own image, and reads no other but its set."""

import os

import numpy as np
import pytest
import tifffile
from image_files import noise, read, refusal, whole

from unet_sharp_det.errors import DatasetError, UserError
from unet_sharp_det.images.source import ReadOptions, open_image

H, W = 24, 40
OME = '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"'
UUIDS = [f"urn:uuid:00000000-0000-0000-0000-00000000000{number}" for number in range(4)]


def data(name=None, uuid=None, z=0, page=0, count=1):
    """Return a TiffData element."""
    file = f' FileName="{name}"' if name else ""
    inner = f"<UUID{file}>{uuid or ''}</UUID>" if name or uuid else ""
    return f'<TiffData FirstZ="{z}" IFD="{page}" PlaneCount="{count}">{inner}</TiffData>'


def image(*entries, depth=1, size=1.0, width=W):
    return (
        f'<Image><Pixels DimensionOrder="XYZCT" Type="uint8" SizeX="{width}" SizeY="{H}" '
        f'SizeZ="{depth}" SizeC="1" SizeT="1" PhysicalSizeX="{size}" PhysicalSizeY="{size}">'
        f'<Channel SamplesPerPixel="1"/>{"".join(entries)}</Pixels></Image>'
    )


def save(path, pages, inner, uuid=None, **settings):
    """Write pages of one value each, with OME-XML."""
    text = f"{OME}{f' UUID={chr(34)}{uuid}{chr(34)}' if uuid else ''}>{inner}</OME>"
    array = np.stack([np.full((H, W), value, np.uint8) for value in pages])
    tifffile.imwrite(
        path, array, description=text, metadata=None, photometric="minisblack", **settings
    )
    return path


def values(path, **options):
    """Return the name and the values of each plane."""
    found = open_image(path, ReadOptions(**options))
    return [(s.name.removeprefix(path.name), np.unique(whole(s)).tolist()) for s in found]


def positions(folder, with_uuids=True):
    """Write two files, each with an image of its own, whose XML names both."""
    names = ["pos0.ome.tif", "pos1.ome.tif"]
    uuids = UUIDS if with_uuids else [None] * 2
    inner = "".join(image(data(names[k], uuids[k]), size=k + 1) for k in range(2))
    return [save(folder / n, [10 * k + 10], inner, uuids[k]) for k, n in enumerate(names)]


def slices(folder, root_uuids=UUIDS, **settings):
    """Write three planes of an image into three files."""
    names = [f"z{z}.ome.tif" for z in range(3)]
    inner = image(*(data(names[z], UUIDS[z], z) for z in range(3)), depth=3)
    return [save(folder / names[z], [z + 1], inner, root_uuids[z], **settings) for z in range(3)]


@pytest.mark.parametrize("with_uuids", [True, False])
def test_each_file_of_a_set_gives_the_image_that_it_holds(tmp_path, with_uuids):
    for number, path in enumerate(positions(tmp_path, with_uuids)):
        (source,) = open_image(path)
        assert np.unique(whole(source)).tolist() == [10 * number + 10]
        assert source.pixel_size == (number + 1, number + 1)
        assert source.series_count == 1
        with pytest.raises(UserError, match="no --series 1"):
            open_image(path, ReadOptions(series=1))


@pytest.mark.parametrize("root_uuids", [UUIDS, UUIDS[:1] * 3, [None] * 3])
@pytest.mark.parametrize("settings", [{}, {"compression": "zlib"}])
def test_planes_in_several_files_are_one_image_of_the_first(tmp_path, root_uuids, settings):
    first, *others = slices(tmp_path, root_uuids, **settings)
    expected = [(f"[z={z}]", [z + 1]) for z in range(3)]
    assert values(first) == expected
    assert values(first, planes="max") == [("[z=max]", [3])]
    for path in others:
        assert "begins in z0.ome.tif" in refusal(path)
    others[1].unlink()
    assert "z2.ome.tif. Put that file beside it" in refusal(first)


def test_series_are_the_images_of_the_file_in_the_order_of_the_xml(tmp_path):
    other = image(data("b.ome.tif", UUIDS[1]), size=9)
    mine = [image(data("a.ome.tif", UUIDS[0], page=page), size=page + 1) for page in (1, 0)]
    path = save(tmp_path / "a.ome.tif", [10, 20], other + "".join(mine), UUIDS[0])
    assert values(path) == [("", [20])]
    assert values(path, series=1) == [("", [10])]
    assert [open_image(path, ReadOptions(series=n))[0].pixel_size for n in (0, 1)] == [
        (2.0, 2.0),
        (1.0, 1.0),
    ]
    assert open_image(path)[0].series_count == 2


def test_a_file_that_was_renamed_is_known_by_its_uuid_or_as_the_only_one(tmp_path):
    _, second = positions(tmp_path)
    assert values(second.rename(tmp_path / "other.tif")) == [("", [20])]
    assert open_image(tmp_path / "other.tif")[0].pixel_size == (2.0, 2.0)
    inner = image(data("before.ome.tif", z=0, count=2), depth=2)
    path = save(tmp_path / "after.ome.tif", [5, 6], inner)
    assert values(path) == [("[z=0]", [5]), ("[z=1]", [6])]


def test_files_that_exchanged_their_names(tmp_path):
    first, second = positions(tmp_path)
    os.rename(first, tmp_path / "c")
    os.rename(second, first)
    os.rename(tmp_path / "c", second)
    assert values(first) == [("", [20])]
    assert open_image(first)[0].pixel_size == (2.0, 2.0)
    (tmp_path / "z").mkdir()
    first, second, _ = slices(tmp_path / "z")
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    for path in (first, second):
        assert path.name in refusal(path)


def test_another_uuid_than_that_of_the_set_is_no_harm(tmp_path):
    for number, path in enumerate(positions(tmp_path)):
        content = path.read_bytes().replace(b' UUID="urn:uuid:0', b' UUID="urn:uuid:9', 1)
        path.write_bytes(content)
        assert values(path) == [("", [10 * number + 10])]


@pytest.mark.parametrize("is_there", [True, False])
def test_metadata_in_a_file_of_their_own(tmp_path, is_there):
    names = ["a.ome.tif", "b.ome.tif"]
    inner = "".join(image(data(n, UUIDS[k]), size=k + 1) for k, n in enumerate(names))
    if is_there:
        (tmp_path / "set.companion.ome").write_text(f'{OME} UUID="{UUIDS[3]}">{inner}</OME>')
    for number, name in enumerate(names):
        text = f'<BinaryOnly MetadataFile="set.companion.ome" UUID="{UUIDS[3]}"/>'
        path = save(tmp_path / name, [number + 7], text, UUIDS[number])
        assert values(path) == [("", [number + 7])]
        size = (number + 1.0, number + 1.0) if is_there else None
        assert open_image(path)[0].pixel_size == size


NAMES = {
    "parent": "../secret.tif",
    "absolute": "{folder}/secret.tif",
    "link": "link.tif",
    "pipe": "pipe",
    "folder": "folder",
    "itself": ".",
}


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("is_first", [True, False])
def test_only_plain_files_beside_a_file_are_read(tmp_path, kind, is_first):
    secret = save(tmp_path / "secret.tif", [99], image(data()))
    folder = tmp_path / "images"
    folder.mkdir()
    os.mkfifo(folder / "pipe")
    (folder / "folder").mkdir()
    (folder / "link.tif").symlink_to(secret)
    name = NAMES[kind].format(folder=tmp_path)
    entries = [data(name, UUIDS[1], 0 if is_first else 1), data(None, UUIDS[0], int(is_first))]
    path = save(folder / "a.ome.tif", [1], image(*entries, depth=2), UUIDS[0])
    assert "a.ome.tif" in refusal(path)


def test_a_companion_elsewhere_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "../secret.ome", str(tmp_path / "secret.ome")):
        path = save(tmp_path / "a.ome.tif", [5], f'<BinaryOnly MetadataFile="{name}" UUID="u"/>')
        assert values(path) == [("", [5])]


@pytest.mark.parametrize(
    "inner",
    [
        image(data(), depth=10**9),
        image(data(count=10**9), depth=10**9),
        image(data(page=10**9), depth=2),
        image(*[data(count=2**19)] * 64, depth=2**19),
    ],
)
def test_sizes_without_pages_are_refused_at_once(tmp_path, inner):
    message = refusal(save(tmp_path / "a.ome.tif", [1, 2], inner))
    assert "lack" in message


@pytest.mark.parametrize(
    "inner",
    [
        image(data(), width=10**9),
        image(data()).replace('SizeZ="1"', 'SizeZ="x"'),
        image(data()).replace("XYZCT", "XYZZT"),
        image(data()) + "<Image>",
        "<!DOCTYPE a>" + image(data()),
        "",
    ],
)
def test_xml_that_does_not_fit_the_pages_says_nothing(tmp_path, inner):
    path = save(tmp_path / "a.ome.tif", [1, 2], inner)
    assert values(path) == [("[page=0]", [1]), ("[page=1]", [2])]


def test_files_of_a_set_must_be_alike(tmp_path):
    first, second, _ = slices(tmp_path)
    text = tifffile.tiffcomment(second)
    for settings in ({"compression": "zlib"}, {"byteorder": ">"}):
        tifffile.imwrite(second, noise(H, W), description=text, metadata=None, **settings)
        with pytest.raises(DatasetError, match=r"differ in|is not the file"):
            read(first)

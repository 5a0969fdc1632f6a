"""Which files inputs name, and names of outputs that never clash."""

import os

import pytest

from unet_sharp_det.batch.inputs import RECORDS, Stems, find_files, natural_key
from unet_sharp_det.batch.records import ImageRecord
from unet_sharp_det.errors import DatasetError
from unet_sharp_det.images.formats import count_not_read


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names):
    for name in names:
        if os.path.dirname(name):
            os.makedirs(os.path.dirname(name), exist_ok=True)
        with open(name, "w"):
            pass


def found(*inputs, **options):
    return [os.path.relpath(file.path) for file in find_files(inputs, **options)]


def stems(*inputs, known=(), **options):
    files = find_files(inputs, **options)
    chosen = Stems(files, known)
    return {os.path.relpath(file.path): chosen.of(file) for file in files}


def test_folder(root):
    files = ["d/a2.TIF", "d/a10.gif", "d/b.czi", "d/c.lif", "d/d.nd2", "d/e.bif"]
    touch(*files, "d/.hidden.png", "d/notes.txt", "d/sub/c.pgm", "d/sub/.x/e.png")
    assert found("d") == files
    assert found("d", recursive=True) == [*files, "d/sub/c.pgm"]


def test_each_file_once(root):
    touch("d/a.png", "d/b.png")
    assert found("d/b.png", "d", "d/*.png", str(root / "d" / "b.png")) == ["d/a.png", "d/b.png"]


def test_files_of_microscopes_that_are_not_read_are_counted(root):
    touch("d/a.png", "d/b.zvi", "d/c.ZVI", "d/.d.lof", "d/e/f.lof", "d/notes.txt", "only/x.oib")
    for recursive, expected in ((False, ["b.zvi", "c.ZVI"]), (True, ["b.zvi", "c.ZVI", "f.lof"])):
        not_read = []
        files = find_files(["d"], recursive=recursive, not_read=not_read)
        assert [file.name for file in files] == ["a.png"]
        assert [path.name for path in not_read] == expected
    assert count_not_read(not_read).startswith("Files that are not read: 2 Zeiss ZVI, 1 Leica LOF.")
    twice = []
    find_files(["d", "d/a.png", "d"], not_read=twice)
    assert [path.name for path in twice] == ["b.zvi", "c.ZVI"]
    with pytest.raises(DatasetError, match="only: has no image.*1 Olympus OIB.*Bio-Formats"):
        find_files(["only"])


def test_outputs_are_no_inputs(root):
    touch("d/a.png", "d/out/a_overlay.png", "d/earlier/a_overlay.png", f"d/earlier/{RECORDS}")
    assert found("d", recursive=True, output="d/out") == ["d/a.png"]
    assert found("d/**/*.png", output="d/out") == ["d/a.png"]
    assert found("d/*/*.png", "d/a.png", output="elsewhere") == ["d/a.png", "d/out/a_overlay.png"]


@pytest.mark.parametrize(
    "pattern, expected",
    [
        ("d/*.tif", ["d/a1.tif", "d/a2.tif", "d/a10.tif"]),
        ("d/a[12].tif", ["d/a1.tif", "d/a2.tif"]),
        ("d/a?.*", ["d/a1.tif", "d/a2.tif"]),
        ("d/**/*.tif", ["d/a1.tif", "d/a2.tif", "d/a10.tif", "d/e/f/b.tif", "d/e/g.tif"]),
        ("**/f/*", ["d/e/f/b.tif"]),
        ("d/**", ["d/a1.tif", "d/a2.tif", "d/a10.tif", "d/e/f/b.tif", "d/e/g.tif"]),
        ("d/*.txt", ["d/a1.txt"]),
    ],
)
def test_patterns(root, pattern, expected):
    touch("d/a1.tif", "d/a2.tif", "d/a10.tif", "d/a1.txt", "d/e/f/b.tif", "d/e/g.tif", "d/.h.tif")
    assert sorted(found(pattern)) == sorted(expected)


def test_a_name_with_wildcards_is_a_name(root):
    touch("a[1].png", "a1.png")
    assert found("a[1].png") == ["a[1].png"]


def test_a_folder_with_wildcards_is_a_folder(root):
    touch("in[1]/a.png", "in[1]/s/b.png", "in1/c.png")
    assert found("in[1]/*.png") == ["in[1]/a.png"]
    assert found("in[1]/*/b.png") == ["in[1]/s/b.png"]
    with pytest.raises(DatasetError, match="no such file or folder.*has 'a.png'"):
        find_files(["in[1]/none.png"])
    with pytest.raises(DatasetError, match="no image matches the pattern") as error:
        find_files(["in[1]/*.tif"])
    assert "--recursive" not in str(error.value)  # which does nothing for patterns


def test_links_are_images_of_their_own(root):
    """By the name of the link, as outputs are."""
    touch("store/1.png", "store/2.png")
    os.mkdir("d")
    for name in ("a", "b"):
        os.symlink("../store/1.png", f"d/{name}.png")
    assert found("d") == ["d/a.png", "d/b.png"]
    assert stems("d") == {"d/a.png": "a", "d/b.png": "b"}
    os.symlink("store", "linked")
    (first, _) = find_files(["linked"])
    assert first.path == root / "linked" / "1.png"
    with pytest.raises(DatasetError, match="is the folder of a.png"):
        find_files(["d/a.png"], output="store")


def test_links_in_a_circle(root):
    touch("d/e/a.png")
    os.symlink("..", "d/e/up")
    os.symlink("e", "d/again")
    assert len(found("d", recursive=True)) == 1
    assert len(found("d/**/*.png")) == 1


def test_a_link_to_nowhere_is_an_input(root):
    """It fails as an image, and is not passed over in silence."""
    touch("d/a.png")
    os.symlink("gone.png", "d/b.png")
    assert found("d") == ["d/a.png", "d/b.png"]


@pytest.mark.parametrize(
    "inputs, options, message",
    [
        (["imges"], {}, "imges: there is no such file or folder. Near that name .* 'images'"),
        (["images/a1.tiff"], {}, "Near that name the folder .*images has 'a1.tif'"),
        (["nowhere/x/a.png"], {}, "nowhere/x/a.png: there is no such"),
        (["empty"], {}, "empty: has no image.* has nothing."),
        (["texts"], {}, r"2 with .txt, 1 with no suffix.* below it have 1 image: .* --recursive"),
        (["images/*.png"], {}, r"images/\*.png: no image matches the pattern. .*2 with .tif"),
        (["imges/*.png"], {}, "there is no folder .*imges. Near that name .* 'images'"),
        (["images"], {"output": "images"}, "is the folder of the images.*images/predictions"),
        (["images/a1.tif"], {"output": "images"}, "is the folder of a1.tif"),
        (["pipe"], {}, "pipe: is neither a file nor a folder"),
        ([], {}, "INPUT: name at least one image"),
        (["images", ""], {}, "INPUT: is empty"),
        (["n" * 300], {}, "n: there is no such file or folder"),
    ],
)
def test_mistakes(root, inputs, options, message):
    touch("images/a1.tif", "images/a2.tif", "texts/x.txt", "texts/y.txt", "texts/sub/a.png")
    os.mkdir("empty")
    os.mkfifo("pipe")
    with pytest.raises(DatasetError, match=message):
        find_files(inputs, **options)


def test_natural_order():
    names = ["z10", "z2", "Z1", "z2/b", "z02", "a", "z²"]
    assert sorted(names, key=natural_key) == ["a", "Z1", "z02", "z2", "z2/b", "z10", "z²"]


def test_stems_keep_folders(root):
    touch("d/a.png", "d/s/a.png", "d/s/b.ome.tif")
    expected = {"d/a.png": "a", "d/s/a.png": "s/a", "d/s/b.ome.tif": "s/b.ome"}
    assert stems("d", recursive=True) == expected
    assert stems("d/**/*.*") == expected
    assert stems("d/s/a.png") == {"d/s/a.png": "a"}


def test_suffixes_in_stems_do_not_depend_on_what_is_an_input(root):
    touch("d/a.png", "d/A.tif", "d/b.png", "d/b.txt")
    expected = {"d/A.tif": "A.tif", "d/a.png": "a.png", "d/b.png": "b"}
    assert stems("d") == expected
    for name, stem in expected.items():
        assert stems(name) == {name: stem}


def test_equal_names_of_several_folders(root):
    touch("x/a.png", "y/a.png", "y/b.png", "p/x/a.png")
    assert stems("x", "y") == {"x/a.png": "x/a", "y/a.png": "y/a", "y/b.png": "b"}
    names = stems("x", "y", "p/x")
    assert names["y/a.png"] == "y/a"
    digits = {names["x/a.png"], names["p/x/a.png"]}
    assert len(digits) == 2
    assert all(name.startswith("a-") and len(name) == 10 for name in digits)
    assert stems("p/x", "y", "x") == names


def test_stems_of_earlier_runs_stay(root):
    touch("x/a.png", "y/a.png")
    source = os.path.realpath("x/a.png")
    known = [ImageRecord(source, "", "a")]
    assert stems("x", "y", known=known) == {"x/a.png": "a", "y/a.png": "y/a"}
    assert stems("y", known=known) == {"y/a.png": "y/a"}
    assert stems("x", known=[ImageRecord(source, "", "old")]) == {"x/a.png": "old"}


def test_a_suffix_in_a_stem_is_no_other_stem(root):
    touch("a.png", "a.tif", "a.tif.png")
    names = stems(".")
    assert len({name.casefold() for name in names.values()}) == 3
    assert names["a.png"] == "a.png"

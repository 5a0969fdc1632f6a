"""Archives: what they give, and that none can write outside of its folder."""

import gzip
import io
import os
import stat
import tarfile
import zipfile
from types import SimpleNamespace

import pytest

import unet_sharp_det.data.archive as archive_module
from unet_sharp_det.data.archive import unpacked
from unet_sharp_det.data.dsb2018_convert import convert_dsb2018
from unet_sharp_det.errors import DatasetError


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """The folder that temporary folders are made in."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


def tar_member(name, **attributes):
    member = tarfile.TarInfo(name)
    for key, value in attributes.items():
        setattr(member, key, value)
    return member


def archive_of(path, members, compression=zipfile.ZIP_STORED):
    """Write an archive of the kind that its suffix says, of members (a name, or what the library
    has for one) and their bytes; return its path."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", compression) as package:
            for member, content in members.items():
                package.writestr(member, content)
    else:
        with tarfile.open(path, f"w:{path.suffix[1:].replace('tar', '')}") as tar:
            for member, content in members.items():
                if isinstance(member, str):
                    member = tar_member(member, size=len(content))
                tar.addfile(member, io.BytesIO(content))
    return path


EVIL_TAR_MEMBERS = {
    "parent": tar_member("../evil", size=4),
    "deep parent": tar_member("a/../../evil", size=4),
    "absolute": tar_member("/evil", size=4),
    "symlink": tar_member("link", type=tarfile.SYMTYPE, linkname="/etc"),
    "inner symlink": tar_member("link", type=tarfile.SYMTYPE, linkname="good"),
    "hard link": tar_member("link", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
    "device": tar_member("device", type=tarfile.CHRTYPE),
    "pipe": tar_member("pipe", type=tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("member", EVIL_TAR_MEMBERS.values(), ids=EVIL_TAR_MEMBERS)
def test_evil_tar_members_are_refused_and_leave_nothing(tmp_path, scratch, member):
    archive = archive_of(tmp_path / "evil.tar.gz", {"good": b"good", member: b"evil"})
    check_refused(archive, member.name, tmp_path, scratch)


@pytest.mark.parametrize("name", ["../evil", "a/../../evil", "/evil", "..\\evil", "C:\\evil"])
def test_evil_zip_members_are_refused_and_leave_nothing(tmp_path, scratch, name):
    archive = archive_of(tmp_path / "evil.zip", {"good": b"good", name: b"evil"})
    check_refused(archive, name, tmp_path, scratch)


def test_a_zipped_symlink_is_refused_and_leaves_nothing(tmp_path, scratch):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    archive = archive_of(tmp_path / "evil.zip", {link: b"/etc"})
    check_refused(archive, "link", tmp_path, scratch)


def check_refused(archive, name, tmp_path, scratch):
    with pytest.raises(DatasetError) as refusal:
        convert_dsb2018(archive, tmp_path / "out", workers=1)
    assert repr(name) in str(refusal.value)
    assert sorted(os.listdir(tmp_path)) == sorted([archive.name, "scratch"])
    assert os.listdir(scratch) == []


def bomb(path, size, number=1):
    """An archive of ``number`` members of ``size`` zeros."""
    members = {f"part{index}": bytes(size) for index in range(number)}
    return archive_of(path, members, zipfile.ZIP_DEFLATED)


@pytest.mark.parametrize("name", ["bomb.zip", "bomb.gz", "bomb.xz"])
@pytest.mark.parametrize(
    ("limits", "free"),
    [
        ({"_SMALL": 2**20}, 2**40),
        ({}, 2**20),
        ({"_MOST_MEMBERS": 3}, 2**40),
    ],
    ids=["ratio", "free space", "members"],
)
def test_archives_made_to_fill_the_disk(tmp_path, scratch, monkeypatch, name, limits, free):
    for limit, value in limits.items():
        monkeypatch.setattr(archive_module, limit, value)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=free))
    path = bomb(tmp_path / name, 2**20, number=4)
    with pytest.raises(DatasetError, match=r"bomb.*unpacks to more than .* MiB or .* files"):
        with unpacked(path):
            pass
    assert os.listdir(scratch) == []


@pytest.mark.parametrize("name", ["small.zip", "small.gz"])
def test_small_archives_may_be_compressed_well(tmp_path, scratch, name):
    with unpacked(bomb(tmp_path / name, 2**22)) as folder:
        assert (folder / "part0").stat().st_size == 2**22


def test_zeros_after_the_end_of_a_tar_count(tmp_path, scratch, monkeypatch):
    monkeypatch.setattr(archive_module, "_SMALL", 2**21)
    path = bomb(tmp_path / "trailing.gz", 10)
    path.write_bytes(path.read_bytes() + gzip.compress(bytes(2**23)))
    with pytest.raises(DatasetError, match="unpacks to more than 2 MiB"), unpacked(path):
        pass


@pytest.fixture
def one_image(kaggle, square):
    return kaggle(masks={"a": square((2, 5), (3, 9))})


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz", "tar.xz"])
@pytest.mark.parametrize("prefix", ["", "stage1_train/"])
def test_an_archive_gives_what_its_folder_gives(one_image, tmp_path, scratch, suffix, prefix):
    files = {path.relative_to(one_image): path.read_bytes() for path in one_image.rglob("*.png")}
    members = {f"{prefix}{name}": content for name, content in files.items()}
    archive = archive_of(tmp_path / f"data.{suffix}", members)
    convert_dsb2018(one_image, tmp_path / "by_folder", workers=1)
    convert_dsb2018(archive, tmp_path / "by_archive", workers=1)
    for name in ("dsb2018_train.json", "report.json"):
        by_folder = (tmp_path / "by_folder" / "annotations" / name).read_bytes()
        assert (tmp_path / "by_archive" / "annotations" / name).read_bytes() == by_folder
    assert b'"area": 18' in (tmp_path / "by_archive/annotations/dsb2018_train.json").read_bytes()
    assert os.listdir(scratch) == []


@pytest.mark.parametrize("suffix", ["zip", "tar.gz", "tar.xz"])
def test_half_an_archive_is_refused(tmp_path, scratch, suffix):
    archive = archive_of(tmp_path / f"half.{suffix}", {"noise": os.urandom(20_000)})
    archive.write_bytes(archive.read_bytes()[:10_000])
    with pytest.raises(DatasetError, match="half"), unpacked(archive):
        pass
    assert os.listdir(scratch) == []


@pytest.mark.parametrize("suffix", ["tar.gz", "tar.bz2", "tar.xz"])
def test_an_archive_with_spoilt_bytes_is_refused(tmp_path, scratch, suffix):
    text = "".join(str(number) for number in range(50_000)).encode()
    archive = archive_of(tmp_path / f"spoilt.{suffix}", {"text": text})
    content = bytearray(archive.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 64] = bytes(64)
    archive.write_bytes(content)
    with pytest.raises(DatasetError, match="spoilt"), unpacked(archive):
        pass
    assert os.listdir(scratch) == []


def test_a_zip_with_a_bad_checksum_is_refused(tmp_path, scratch):
    archive = archive_of(tmp_path / "bad.zip", {"name": b"a text to be found and changed"})
    archive.write_bytes(archive.read_bytes().replace(b"found", b"fOund"))
    with pytest.raises(DatasetError, match="broken"), unpacked(archive):
        pass
    assert os.listdir(scratch) == []


def test_another_file_is_no_archive(tmp_path):
    file = tmp_path / "notes.txt"
    file.write_text("no archive")
    with pytest.raises(DatasetError, match="neither a folder nor"), unpacked(file):
        pass


UNWRITABLE_MEMBERS = {
    "a name of 300 characters": ["x" * 300],
    "a path of 5,000 characters": ["x" * 200 + "/" + "y/" * 2400 + "z"],
    "a file where a folder was": ["a/b", "a"],
    "a folder where a file was": ["a", "a/b"],
}


@pytest.mark.parametrize("names", UNWRITABLE_MEMBERS.values(), ids=UNWRITABLE_MEMBERS)
@pytest.mark.parametrize("suffix", ["zip", "tar.gz"])
def test_what_no_file_system_takes_is_refused(tmp_path, scratch, suffix, names):
    archive = archive_of(tmp_path / f"odd.{suffix}", dict.fromkeys(names, b"text"))
    with pytest.raises(DatasetError, match=r"odd.* cannot be unpacked here"), unpacked(archive):
        pass
    assert os.listdir(scratch) == []


def test_an_old_python_unpacks_no_tar(tmp_path, monkeypatch):
    archive = archive_of(tmp_path / "a.tar", {"a": b"text"})
    monkeypatch.delattr(tarfile, "data_filter")
    with pytest.raises(DatasetError, match=r"need Python 3\.10\.12"), unpacked(archive):
        pass


def test_attributes_of_members_are_not_taken(tmp_path, scratch):
    folder = tar_member("a", type=tarfile.DIRTYPE, mode=0)
    member = tar_member("a/b", size=4, mode=0o4000, pax_headers={"mtime": "1e300"})
    archive = archive_of(tmp_path / "attributes.tar", {folder: b"", member: b"text"})
    with unpacked(archive) as folder:
        assert (folder / "a" / "b").read_text() == "text"
        assert stat.S_IMODE((folder / "a" / "b").stat().st_mode) & 0o7000 == 0


def test_an_encrypted_zip_is_refused(tmp_path, scratch):
    archive = archive_of(tmp_path / "secret.zip", {"name": b"text"})
    content = bytearray(archive.read_bytes())
    content[6] |= 1  # the flag, in the member's own header and in the directory
    content[content.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(content)
    with pytest.raises(DatasetError, match="encrypted"), unpacked(archive):
        pass

"""Archives: what they give, and that none can write outside of its folder."""

import io
import os
import stat
import tarfile
import zipfile

import pytest

from unet_sharp_det.data.dsb2018_convert import convert_dsb2018
from unet_sharp_det.errors import DatasetError


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """The folder that temporary folders are made in; at the end it is empty."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    yield folder
    assert os.listdir(folder) == []


def tar_member(name, **attributes):
    member = tarfile.TarInfo(name)
    for key, value in attributes.items():
        setattr(member, key, value)
    return member


def archive_of(path, members):
    """Write an archive of the kind that its suffix says, of members (a name, or what the library
    has for one) and their bytes; return its path."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as package:
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
    "symlink": tar_member("link", type=tarfile.SYMTYPE, linkname="/etc"),
    "hard link": tar_member("link", type=tarfile.LNKTYPE, linkname="/etc/passwd"),
    "device": tar_member("device", type=tarfile.CHRTYPE),
    "pipe": tar_member("pipe", type=tarfile.FIFOTYPE),
}


@pytest.mark.parametrize("member", EVIL_TAR_MEMBERS.values(), ids=EVIL_TAR_MEMBERS)
def test_evil_tar_members_are_refused_and_leave_nothing(tmp_path, scratch, member):
    archive = archive_of(tmp_path / "evil.tar.gz", {"good": b"good", member: b"evil"})
    with pytest.raises(DatasetError, match=member.name):
        convert_dsb2018(archive, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == ["evil.tar.gz", "scratch"]


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_names_that_lead_out_stay_in_the_folder(tmp_path, scratch, kind):
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    names = ["/evil", "..\\evil", "C:\\evil"]
    names += ["../evil", "a/../../evil", link] if kind == "zip" else []
    archive = archive_of(tmp_path / f"evil.{kind}", dict.fromkeys(names, b"/etc"))
    with pytest.raises(DatasetError, match="holds no image folder"):
        convert_dsb2018(archive, tmp_path / "out")
    assert sorted(os.listdir(tmp_path)) == [f"evil.{kind}", "scratch"]


@pytest.mark.parametrize("suffix", ["zip", "tar", "tar.gz", "tar.xz"])
def test_an_archive_gives_what_its_folder_gives(kaggle, square, tmp_path, scratch, suffix):
    source = kaggle(masks={"a": square((2, 5), (3, 9))})
    prefix = "stage1_train/" if suffix in ("zip", "tar.gz") else ""
    files = {path.relative_to(source): path.read_bytes() for path in source.rglob("*.png")}
    members = {f"{prefix}{name}": content for name, content in files.items()}
    archive = archive_of(tmp_path / f"data.{suffix}", members)
    convert_dsb2018(source, tmp_path / "by_folder")
    convert_dsb2018(archive, tmp_path / "by_archive")
    for name in ("dsb2018_train.json", "report.json"):
        by_folder = (tmp_path / "by_folder" / "annotations" / name).read_bytes()
        assert (tmp_path / "by_archive" / "annotations" / name).read_bytes() == by_folder
    assert b'"area": 18' in (tmp_path / "by_archive/annotations/dsb2018_train.json").read_bytes()


def halve(content):
    return content[: len(content) // 2]


def spoil(content):
    middle = len(content) // 2
    return content[:middle] + bytes(64) + content[middle + 64 :]


def encrypt(content):
    """Set the flag in the member's own header and in the directory."""
    content = bytearray(content)
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    return bytes(content)


@pytest.mark.parametrize(
    "suffix, damage",
    [(suffix, damage) for suffix in ("zip", "tar.gz", "tar.xz") for damage in (halve, spoil)]
    + [("tar.bz2", spoil), ("zip", encrypt), ("zip", lambda _: b"no archive")],
)
def test_a_damaged_archive_is_refused(tmp_path, scratch, suffix, damage):
    text = "".join(str(number) for number in range(50_000)).encode()
    archive = archive_of(tmp_path / f"bad.{suffix}", {"text": text})
    archive.write_bytes(damage(archive.read_bytes()))
    with pytest.raises(DatasetError, match="bad.*(is broken|neither a folder nor)"):
        convert_dsb2018(archive, tmp_path / "out")

"""Converting DSB2018 from the layout that Kaggle distributes to COCO json files.

In:  ``<id>/images/<id>.png`` and ``<id>/masks/*``, one image file per nucleus.
Out: ``images/<id>.png`` (the same bytes), ``annotations/dsb2018_{train,val,test}.json`` and
``annotations/report.json``. What is done about odd files stands in ``dsb2018_read.QUIRKS``.
"""

import contextlib
import re
import tarfile
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from ..errors import DatasetError, library_errors
from ..files import atomic_path, write_json
from .catalog import DSB2018_CATEGORIES, DSB2018_SPLITS
from .dsb2018_read import QUIRKS, Sample, read_sample

DOWNLOAD = "https://bbbc.broadinstitute.org/BBBC038 (stage1_train.zip)"


@dataclass(frozen=True)
class Conversion:
    """What a conversion found.

    Attributes:
        counts: per split, and for folders without one under ``"none"``: numbers of ``images``,
            ``nuclei`` and ``skipped`` (rotten) files.
        quirks: per key of ``QUIRKS`` the affected ids or paths, sorted.
    """

    counts: dict[str, dict[str, int]]
    quirks: dict[str, list[str]]

    @property
    def skipped(self) -> int:
        return sum(count["skipped"] for count in self.counts.values())


def split_of(dsb_id: str) -> str | None:
    """Return the split of an image id, or None if the id is not hexadecimal.

    The first 8 digits modulo 10 give train for 0 to 4, val for 5 and 6, test for 7 to 9: the
    proportion of UNet++ (Zhou et al., TMI 2019), fixed so that no image ever moves.
    """
    if not re.fullmatch("[0-9a-fA-F]{8,}", dsb_id):
        return None
    bucket = int(dsb_id[:8], 16) % 10
    return "train" if bucket <= 4 else "val" if bucket <= 6 else "test"


def convert_dsb2018(source, root) -> Conversion:
    """Convert DSB2018 to COCO json files with RLE masks; the same input gives the same bytes.

    Args:
        source: a folder in Kaggle's layout, a folder that holds it as ``stage1_train``, or a
            .zip or .tar archive of either, perhaps compressed by gzip, bzip2 or xz.
        root: the folder to write to.

    Raises:
        DatasetError: ``source`` is missing, holds no image folder, or is an archive that is broken,
            encrypted, too large for the disk, or has a member that leads out of its folder; or
            ``root`` is the very folder that is read.
    """
    with _opened(Path(source)) as folder:
        if folder.resolve() == Path(root).resolve():
            raise DatasetError(f"{root}: is the input itself. Give another --output.")
        samples = _read_samples(folder)
        quirks = _collect_quirks(samples)
        counts = _count(samples, quirks)
        for sample in filter(lambda sample: sample.readable, samples):
            name = f"{sample.dsb_id}.png"
            image = (folder / sample.dsb_id / "images" / name).read_bytes()
            target = Path(root) / "images" / name
            if not target.exists() or target.read_bytes() != image:
                with atomic_path(target) as temporary:
                    temporary.write_bytes(image)
        _write_annotations(Path(root) / "annotations", samples, counts, quirks)
    return Conversion(counts, quirks)


def _to_coco(samples: list[Sample]) -> dict:
    """The COCO dict of a split's images. Unreadable ones use up an image id, so that a mended file
    moves no other one."""
    images, annotations = [], []
    for image_id, sample in enumerate(samples, start=1):
        if not sample.readable:
            continue
        size = {"width": sample.width, "height": sample.height}
        file_name = f"images/{sample.dsb_id}.png"
        images.append({"id": image_id, "file_name": file_name, **size, "dsb_id": sample.dsb_id})
        for nucleus in sample.nuclei:
            ids = {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0}
            annotations.append({**ids, **nucleus})
    content = {"categories": DSB2018_CATEGORIES, "images": images, "annotations": annotations}
    return {"info": {"description": "DSB2018 nuclei (BBBC038, CC0)"}, **content}


@contextlib.contextmanager
def _opened(source: Path) -> Iterator[Path]:
    """The folder of the image folders; of an archive a temporary one, where ``TMPDIR`` says."""
    if not source.exists():
        raise DatasetError(f"{source}: no such file or folder. Get DSB2018 from {DOWNLOAD}.")
    with tempfile.TemporaryDirectory(prefix="unet_sharp_det-") as temporary:
        folder = source if source.is_dir() else _unpack(source, Path(temporary))
        inner = folder / "stage1_train"
        folder = inner if inner.is_dir() else folder
        if not any(folder.glob("*/images")):
            raise DatasetError(
                f"{source}: holds no image folder. Give <id>/images/<id>.png and <id>/masks/*, "
                "directly or below stage1_train/."
            )
        yield folder


def _unpack(archive: Path, folder: Path) -> Path:
    """Unpack an archive, told by its content, into a folder that no member can leave."""
    remedy = "Fetch it again, or unpack it and give the folder."
    with library_errors(f"{archive}: is broken, or cannot be unpacked here", remedy):
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as package:
                package.extractall(folder)
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
                # A tar ends before its compressed stream does, whose checksum stands at the end.
                while tar.fileobj.read(1 << 20):
                    pass
        else:
            raise DatasetError(f"{archive}: neither a folder nor a readable .zip or .tar archive.")
    return folder


def _read_samples(folder: Path) -> list[Sample]:
    """The samples of all image folders, sorted by id."""
    paths = sorted(
        path for path in folder.iterdir() if path.is_dir() and not path.name.startswith((".", "__"))
    )
    bad = [Sample(p.name, quirks=[("bad_id", p.name)]) for p in paths if not split_of(p.name)]
    good = [path for path in paths if split_of(path.name)]
    with ProcessPoolExecutor() as pool:
        read = pool.map(read_sample, good, chunksize=4)
        return bad + list(tqdm(read, total=len(good), unit="image", desc="reading"))


def _collect_quirks(samples: list[Sample]) -> dict[str, list[str]]:
    quirks = {kind: [] for kind in QUIRKS}
    firsts = {}
    for sample in samples:
        for kind, affected in sample.quirks:
            quirks[kind].append(affected)
        if sample.readable:
            name = f"{sample.dsb_id} ({split_of(sample.dsb_id)})"
            first = firsts.setdefault(sample.digest, name)
            if first != name:
                quirks["duplicate_image"].append(f"{name} = {first}")
    return {kind: sorted(affected) for kind, affected in quirks.items()}


def _count(samples: list[Sample], quirks: dict[str, list[str]]) -> dict[str, dict[str, int]]:
    counts = {split: Counter(images=0, nuclei=0, skipped=0) for split in (*DSB2018_SPLITS, "none")}
    for sample in samples:
        split = split_of(sample.dsb_id) or "none"
        counts[split].update(images=sample.readable, nuclei=len(sample.nuclei))
    for kind, quirk in QUIRKS.items():
        for affected in quirks[kind] if quirk.effect == "skipped" else ():
            counts[split_of(affected.split("/")[0]) or "none"]["skipped"] += 1
    if not counts["none"]["skipped"]:
        del counts["none"]
    return {split: dict(count) for split, count in counts.items()}


def _write_annotations(folder: Path, samples: list[Sample], counts: dict, quirks: dict) -> None:
    """Write the report, then the json files, which refer to images that are already there."""
    report = {
        kind: {"effect": quirk.effect, "policy": quirk.policy, "count": len(quirks[kind])}
        | {"affected": quirks[kind]}
        for kind, quirk in QUIRKS.items()
    }
    write_json(folder / "report.json", {"counts": counts, "quirks": report}, indent=1)
    for split in DSB2018_SPLITS:
        coco = _to_coco([sample for sample in samples if split_of(sample.dsb_id) == split])
        write_json(folder / f"dsb2018_{split}.json", coco)

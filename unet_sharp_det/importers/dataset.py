"""What imports of volumes share: cases are checked and stored, ``dataset.json`` lists them."""

import glob
import hashlib
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..data.label_files import VOLUMES
from ..data.volume_catalog import DATASET_FILE, VOLUME_SPLITS
from ..errors import DatasetError, library_errors
from ..files import atomic_path, ending_of, write_json
from ..volumes import Volume, read_labels, read_volume, write_volume
from .origin import RECORD_FILE, REMEDY, read_record


@dataclass(frozen=True)
class Case:
    """A scan with its labels, as it is distributed.

    Attributes:
        id: also of the files that are written.
        patient: all scans of a patient go to one split.
        image: a file, or a folder of a DICOM series, per channel.
        label: a file, or a function that paints integers (D, H, W) onto the image.
        split: None: that of :func:`assign_splits`.
    """

    id: str
    patient: str
    image: tuple[Path, ...]
    label: Path | Callable[[Volume], np.ndarray]
    split: str | None = None


@dataclass(frozen=True)
class Summary:
    """What an import found; its text is for the user.

    Attributes:
        folder: that was written.
        counts: cases per split.
        skipped: ``case: why`` of those that were left out.
        unplaced: cases whose files say neither size nor place of a voxel.
    """

    folder: Path
    counts: dict[str, int]
    skipped: tuple[str, ...]
    unplaced: tuple[str, ...]

    def __str__(self) -> str:
        counts = ", ".join(f"{count} {split}" for split, count in self.counts.items())
        lines = [f"{self.folder}: {sum(self.counts.values())} cases ({counts})."]
        if not self.counts["val"]:
            lines.append("No case is of val: import another patient, too.")
        elif not self.counts["test"]:
            lines.append(f"No case is of test: move some there in {DATASET_FILE}.")
        if self.unplaced:
            lines.append(
                "Spacing 1 and origin 0, which may mean that they are not known, are kept of "
                f"{len(self.unplaced)}: {', '.join(self.unplaced)}."
            )
        if self.skipped:
            lines += [f"Left out {len(self.skipped)}:", *(f"  {line}" for line in self.skipped)]
        return "\n".join(lines)


def assign_splits(patients: Iterable[str]) -> dict[str, str]:
    """Return the split of each patient: by a hash of the name, so that few cases ever move.

    The first 8 digits of its SHA-256, modulo 10, give train for 0 to 6, val for 7, else test. Of
    two patients or more, one is of train and one of val.
    """
    hashes = {
        each: int(hashlib.sha256(each.encode()).hexdigest()[:8], 16) for each in sorted(patients)
    }
    by_bucket = [*["train"] * 7, "val", "test", "test"]
    splits = {each: by_bucket[number % 10] for each, number in hashes.items()}
    for needed in ("train", "val")[: len(splits)]:
        found = [*splits.values()]
        if needed not in found:
            largest = max(("test", "train", "val"), key=found.count)
            splits[min((p for p in splits if splits[p] == largest), key=hashes.get)] = needed
    return splits


def write_dataset(
    kind: str,
    source,
    output,
    cases: Iterable[Case],
    *,
    modality: list[str],
    labels: dict[int, str],
    settings: dict | None = None,
) -> Summary:
    """Store the cases in ``volumes/`` and ``labels/``, and list them in ``dataset.json``.

    A case that cannot be used is left out. What an earlier call stored of files that have not
    changed since is not read again.

    Args:
        kind: of ``importers.VOLUMES``.
        source: that the cases come from; kept in ``import.json``, so that no other import writes
            to the same folder.
        output: its name becomes the data set's.
        modality: a name per channel.
        labels: all that there may be.
        settings: of the import, that decide what labels are painted.

    Raises:
        DatasetError: the folder holds something else, or no case can be used.
        UserError: a file cannot be written.
    """
    output = Path(output)
    origin = {"kind": kind, "source": str(Path(source).resolve()), "labels": list(labels.values())}
    origin |= settings or {}
    stored = _stored_cases(output, origin)
    write_json(output / RECORD_FILE, {**origin, "cases": stored})
    done, skipped = {}, []
    for case in tqdm(list(cases), unit="case", desc=kind):
        if case.id in done:
            skipped.append(f"{case.id}: another case has the same name.")
            continue
        try:
            stamps = _stamps(case)
            if stored.get(case.id, {}).get("stamps") != stamps:
                stored[case.id] = {"stamps": stamps, **_store(case, output, modality, labels)}
                write_json(output / RECORD_FILE, {**origin, "cases": stored})
            done[case.id] = case
        except DatasetError as error:
            skipped.append(f"{case.id}: {error}")
    if not done:
        raise DatasetError(f"{source}: no case can be used. {' '.join(skipped[:1])}".strip())
    splits = assign_splits({case.patient for case in done.values() if not case.split})
    entries = {split: [] for split in VOLUME_SPLITS}
    for case in done.values():
        entries[case.split or splits[case.patient]].append(stored[case.id]["entry"])
    names = {str(label): name for label, name in labels.items()}
    content = {"name": output.resolve().name, "modality": modality, "labels": names, **entries}
    write_json(output / DATASET_FILE, content, indent=1)
    counts = {split: len(listed) for split, listed in entries.items()}
    unplaced = tuple(name for name in done if stored[name].get("unplaced"))
    return Summary(output, counts, tuple(skipped), unplaced)


def _stored_cases(output: Path, origin: dict) -> dict[str, dict]:
    """What an earlier call of the same import stored and is still there, by the case's id."""
    cases = read_record(output, origin).get("cases", {})
    with library_errors(f"{output / RECORD_FILE}: is damaged", REMEDY):
        files = {n: [*each["entry"]["image"], each["entry"]["label"]] for n, each in cases.items()}
        return {n: cases[n] for n in cases if all((output / file).exists() for file in files[n])}


def _stamps(case: Case) -> list[list[int]]:
    """Sizes and times of a case's files; raises a DatasetError if one is missing.

    These are a folder's slices, and what shares the stem of a file, as .raw that of .mhd.
    """
    files = []
    for path in [*case.image, *([case.label] if isinstance(case.label, Path) else [])]:
        if not path.exists():
            raise DatasetError(f"There is no {path.name} in {path.parent}.")
        is_folder = path.is_dir()
        files += sorted(
            path.iterdir() if is_folder else path.parent.glob(f"{glob.escape(path.stem)}.*")
        )
    return [[stat.st_size, stat.st_mtime_ns] for stat in (path.stat() for path in files)]


def _store(case: Case, output: Path, modality: list[str], labels: dict[int, str]) -> dict:
    if len(case.image) != len(modality):
        raise DatasetError(f"It has {len(case.image)} channels, others have {len(modality)}.")
    volume = read_volume(case.image)
    if isinstance(case.label, Path):
        array = read_labels(case.label, like=volume).array[0]
    else:
        array = case.label(volume)
    known = np.isin(array, list(labels))
    if not known.all():
        unknown = np.unique(array[~known]).tolist()
        raise DatasetError(f"Its labels {unknown[:5]} are none of {sorted(labels)}.")
    names = [case.id] if len(modality) == 1 else [f"{case.id}_{each}" for each in modality]
    image = [
        _store_file(path, output, f"volumes/{name}", volume.array[channel], volume)
        for channel, (name, path) in enumerate(zip(names, case.image, strict=True))
    ]
    label = _store_file(case.label, output, f"labels/{case.id}", array, volume)
    entry = {"id": case.id, "patient": case.patient, "image": image, "label": label}
    native = volume.native
    return {"entry": entry, "unplaced": {*native.spacing} == {1} and {*native.origin} == {0}}


def _store_file(source, output: Path, stem: str, array: np.ndarray, like: Volume) -> str:
    """Copy a file, or write the array if it is none of one file; return the path in ``output``."""
    is_whole = isinstance(source, Path) and ending_of(source) in VOLUMES
    name = f"{stem}{ending_of(source) if is_whole else '.nii.gz'}"
    if is_whole:
        with atomic_path(output / name) as temporary:
            shutil.copyfile(source, temporary)
    else:
        write_volume(output / name, array, like)
    return name

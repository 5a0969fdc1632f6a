"""Registration of data sets of volumes: a folder with ``dataset.json``, as ``import`` writes it.

::

    {"name": "lits17", "modality": ["CT"],
     "labels": {"0": "background", "1": "liver", "2": "tumour"},
     "train": [{"id": "0", "patient": "0", "image": ["volumes/0.nii"], "label": "labels/0.nii"}],
     "val": [], "test": []}

Paths are relative to the folder. ``image`` has a file for each modality, which is a channel;
``label`` may be absent.
"""

import functools
import re
from pathlib import Path

from detectron2.data import DatasetCatalog, MetadataCatalog

from ..addresses import local_paths
from ..errors import DatasetError
from ..files import read_json, safe_join

VOLUME_SPLITS = ("train", "val", "test")
DATASET_FILE = "dataset.json"
#: The data sets of the paper's Table 1, which configs name before anybody has them.
VOLUME_SETS = ("brats19", "lits17", "lidc", "luna16")
# Files of predictions are named by it.
_ID = re.compile(r"[^./\\][^/\\]*")
#: What errors of ``dataset.json`` end in.
REMEDY = "Write it by unet-sharp-det import, or mend it."


def register_volumes(name: str, json_file) -> None:
    """Register ``<name>_train``, ``<name>_val`` and ``<name>_test``, to be read when they are used.

    Data sets of the same names are replaced. The classes are in the metadata, as
    ``stuff_classes``, once a data set was read.

    Args:
        json_file: ``dataset.json``, see the module.

    Example:
        >>> register_volumes("liver", "my_livers/dataset.json")  # DATASETS.TRAIN: ("liver_train",)
    """
    for split in VOLUME_SPLITS:
        full_name = f"{name}_{split}"
        if full_name in DatasetCatalog:
            DatasetCatalog.remove(full_name)
            MetadataCatalog.remove(full_name)
        load = functools.partial(load_volumes, full_name, Path(json_file), split)
        DatasetCatalog.register(full_name, load)
        MetadataCatalog.get(full_name).set(evaluator_type="volume", json_file=str(json_file))


def load_volumes(name: str, json_file: Path, split: str) -> list[dict]:
    """Read one split as detectron2's dataset dicts, and set the metadata of ``name``.

    Returns:
        dicts of ``image_id``, ``file_name`` (of the first channel), ``volume_files`` (all), and
        ``label_file`` if there is one.

    Raises:
        DatasetError: the file is not as the module says, the split is empty, a volume is missing,
            or cases of one patient lie in several splits.
    """
    content = read_json(json_file, dict, REMEDY)
    classes = _read_classes(content.get("labels"), json_file)
    cases = {each: content.get(each) for each in VOLUME_SPLITS}
    for each, listed in cases.items():
        if not isinstance(listed, list) or not all(isinstance(case, dict) for case in listed):
            raise DatasetError(f"{json_file}: '{each}' is no list of cases. {REMEDY}")
    _check_cases(cases, json_file)
    if not cases[split]:
        raise DatasetError(f"{json_file}: '{split}' has no case. Move some there.")
    channels = content.get("modality")
    if not isinstance(channels, list) or not channels:
        raise DatasetError(f"{json_file}: 'modality' is no list of a name per channel. {REMEDY}")
    records = [_to_record(case, len(channels), json_file) for case in cases[split]]
    vars(MetadataCatalog.get(name)).update(stuff_classes=classes)
    return records


def _read_classes(labels, where: Path) -> list[str]:
    """The names of the labels 0, 1, ...; gaps are named by their number."""
    try:
        named = {int(label): str(name) for label, name in labels.items()}
    except (AttributeError, ValueError):
        named = {}
    if not named or not 0 == min(named) <= max(named) < 256:
        raise DatasetError(
            f'{where}: \'labels\' must be as {{"0": "background", "1": "liver"}}. {REMEDY}'
        )
    return [named.get(label, str(label)) for label in range(max(named) + 1)]


def _check_cases(cases: dict[str, list[dict]], where: Path) -> None:
    """Check that each case has an id of its own, and all of a patient lie in one split."""
    seen, split_of = set(), {}
    for split, case in ((split, case) for split, listed in cases.items() for case in listed):
        name = case.get("id")
        if not isinstance(name, str) or not _ID.fullmatch(name) or name in seen:
            raise DatasetError(
                f"{where}: the id {name!r} is there twice, or could be no file's name. Give each "
                "case another."
            )
        seen.add(name)
        patient = str(case.get("patient", name))
        if split_of.setdefault(patient, split) != split:
            raise DatasetError(
                f"{where}: patient {patient!r} is in {split_of[patient]} and in {split}. Move "
                "all cases of a patient to one of them."
            )


def _to_record(case: dict, channels: int, where: Path) -> dict:
    name, images, label = case.get("id"), case.get("image"), case.get("label")
    if not isinstance(images, list) or len(images) != channels:
        raise DatasetError(
            f"{where}: case {name!r} needs an 'image' list of {channels} files, one per modality. "
            f"{REMEDY}"
        )
    files = [*images, label] if label is not None else images
    paths = local_paths([safe_join(where.parent, file, str(where)) for file in files])
    if missing := [str(path) for path in paths if not path.exists()]:
        raise DatasetError(f"{where}: there is no {missing[0]} of case {name!r}. {REMEDY}")
    record = {"image_id": name, "file_name": str(paths[0])}
    record["volume_files"] = [str(path) for path in paths[:channels]]
    return record if label is None else {**record, "label_file": str(paths[-1])}

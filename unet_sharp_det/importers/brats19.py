"""BraTS 2019 training data: ``{HGG,LGG}/<ID>/<ID>_{t1,t1ce,t2,flair,seg}.nii.gz``, or ``.nii``.

Labels: 1 necrotic core, 2 oedema, 4 enhancing tumour. ``<ID>`` is
``BraTS19_<site>_<patient>_<scan>``.
"""

from pathlib import Path

from ..errors import DatasetError
from .dataset import Case, Summary, write_dataset

SEQUENCES = ["t1", "t1ce", "t2", "flair"]
LABELS = {0: "background", 1: "necrotic core", 2: "oedema", 4: "enhancing tumour"}


def convert(source, output) -> Summary:
    """Import BraTS 2019; for ``source``, ``output`` and errors see :func:`write_dataset`.

    Args:
        source: ``MICCAI_BraTS_2019_Data_Training``, or a folder that holds it.
    """
    folders = [path for path in sorted(Path(source).rglob("[HL]GG/*")) if path.is_dir()]
    if not folders:
        raise DatasetError(f"{source}: has no HGG/<ID> or LGG/<ID>. Give BraTS' training folder.")
    cases = [_case(folder) for folder in folders]
    return write_dataset("brats19", source, output, cases, modality=SEQUENCES, labels=LABELS)


def _case(folder: Path) -> Case:
    files = {name: _file(folder, name) for name in (*SEQUENCES, "seg")}
    image = tuple(files[name] for name in SEQUENCES)
    return Case(folder.name, folder.name.rpartition("_")[0], image, files["seg"])


def _file(folder: Path, name: str) -> Path:
    """The compressed file, or the one of mirrors that unpack it."""
    packed = folder / f"{folder.name}_{name}.nii.gz"
    plain = packed.with_suffix("")
    return plain if plain.exists() and not packed.exists() else packed

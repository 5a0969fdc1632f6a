"""Objects of neighbouring slices of a stack become one, in a label stack."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ..errors import ConfigError
from ..files import atomic_path
from ..images.decoding import read_labels
from ..images.source import open_image
from ..masks import InstanceMap
from ..outputs.label_map import write_label_stack
from .records import ImageRecord, Records

#: IoU from which on objects of neighbouring slices are linked, if the user names none.
LINK_IOU = 0.25


def check_link(least_iou: float | None, outputs: Sequence[str]) -> None:
    """Raise a ConfigError if stacks cannot be linked so."""
    if least_iou is None:
        return
    if not 0 < least_iou <= 1:
        raise ConfigError(f"--link is {least_iou}, but must lie above 0, and be 1 at most.")
    if "labels" not in outputs:
        raise ConfigError("--link makes its stacks of label maps. Add labels to --outputs.")


def link_stacks(records: Records, outputs: Sequence[str], least_iou: float) -> None:
    """Write a label stack of each file whose slices are all done.

    Numbers are those of objects through the stack; see :func:`link_slices`.
    """
    stacks = defaultdict(list)
    for record in records:
        if record.linked and record.is_done:
            stacks[record.source, record.linked].append(record)
    done = {name: slices for (_, name), slices in stacks.items() if _are_all(slices, records)}
    records.refuse_foreign(records.folder / name for name in done)
    records.own(done)
    records.start(outputs)
    for name, slices in done.items():
        files = [records.folder / each.outputs["labels"] for each in slices]
        write_stack(records.folder / name, files, least_iou)


def write_stack(path: Path, files: Sequence[Path], least_iou: float) -> None:
    """Link the label maps of slices, and write them as one TIFF stack, which ImageJ opens.

    Two slices are in memory at a time.
    """
    tables = list(link_slices(map(read_labels, files), least_iou))
    largest = max((table.max() for table in tables), default=0)
    pages = (table[read_labels(file)] for table, file in zip(tables, files, strict=True))
    shape = (len(files), *read_labels(files[0]).shape)
    (first,) = open_image(files[0])
    with atomic_path(path) as temporary:
        write_label_stack(pages, shape, temporary, largest=largest, pixel_size=first.pixel_size)


def link_slices(slices: Iterable[np.ndarray], least_iou: float) -> Iterator[np.ndarray]:
    """Number objects through a stack.

    An object gets the number of the object of the slice before with which it has the largest IoU,
    if that is ``least_iou`` or more, and no other object overlaps that one more; else a new number.
    Cellpose's ``stitch3D`` does the same, but for its order of pairs.

    Args:
        slices: label maps (H, W) with objects 1, 2, ...; 0 is background.

    Yields:
        of each slice integers (N + 1,): the new number of each old one, 0 of 0.

    Example:
        >>> first, second = np.array([[1, 1, 0, 0]]), np.array([[2, 2, 0, 1]])
        >>> [table.tolist() for table in link_slices([first, second], 0.25)]
        [[0, 1], [0, 2, 1]]
    """
    from ..evaluation.instances.overlap import shared_pixels  # Slow to import.

    before, numbers, count = None, np.zeros(1, np.int64), 0
    for labels in slices:
        objects = int(labels.max(initial=0))
        now = InstanceMap(labels.astype(np.int32), np.ones(objects))
        table = np.zeros(objects + 1, np.int64)
        if before is not None:
            i, j, shared = shared_pixels(before, now)
            iou = shared / (before.areas[i] + now.areas[j] - shared)
            taken = set()
            for pair in np.argsort(-iou, kind="stable"):
                old = i[pair]
                if iou[pair] >= least_iou and not table[j[pair] + 1] and old not in taken:
                    taken.add(old)
                    table[j[pair] + 1] = numbers[old + 1]
        new = np.flatnonzero(table[1:] == 0) + 1
        table[new] = count + 1 + np.arange(len(new))
        count += len(new)
        before, numbers = now, table
        yield table


def _are_all(slices: Sequence[ImageRecord], records: Records) -> bool:
    """Whether all slices of the file are done, and there are several."""
    of_file = records.of(Path(slices[0].source)).values()
    done = [each for each in of_file if each.is_done and records.has_outputs(each)]
    have_labels = all("labels" in each.outputs for each in slices)
    return len(slices) > 1 and len(done) == slices[0].planes and have_labels

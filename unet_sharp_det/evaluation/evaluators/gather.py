"""What the evaluators share: the results of several processes, and the record of an evaluation."""

import itertools

from detectron2.data import MetadataCatalog
from detectron2.utils import comm

from ..record import EvaluationOptions, EvaluationRecord


def gather_on_main(items: list) -> list | None:
    """Return the items of all ranks in the order of the ranks; None on all but the main process."""
    comm.synchronize()
    gathered = comm.gather(items, dst=0)
    return list(itertools.chain(*gathered)) if comm.is_main_process() else None


def write_record(
    dataset_name: str, predictions_file: str, options: EvaluationOptions, folder: str
) -> None:
    """Write the record of predictions in ``folder`` for a registered data set with a json_file."""
    metadata = MetadataCatalog.get(dataset_name)
    truth, images = metadata.json_file, metadata.get("image_root")
    record = EvaluationRecord(dataset_name, truth, predictions_file, images, options=options)
    record.write(folder)

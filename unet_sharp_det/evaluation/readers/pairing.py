"""Which image of a ground truth a prediction is of."""

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from ...errors import DatasetError
from ..coco.truth import Truth

logger = logging.getLogger(__name__)


class ImagePairing:
    """Finds images of a ground truth by id, or by the file name and its stem."""

    def __init__(self, truth: Truth, where: str):
        """
        Args:
            truth: with the images.
            where: file or folder of the predictions, which the errors name.
        """
        self._truth = truth
        self._where = where
        self._by_stem = defaultdict(list)
        for image_id, record in truth.records.items():
            stem = Path(record.file_name).stem if truth.has_categories else image_id
            self._by_stem[stem].append(image_id)

    @property
    def stems(self) -> Iterable[str]:
        """The stems of the images' file names."""
        return self._by_stem.keys()

    def by_id(self, image_id):
        """Return the image of an id, None if there is none; 7 is found where ids are texts."""
        return next((i for i in (image_id, str(image_id)) if i in self._truth.records), None)

    def by_file(self, file_name: str, image_id=None):
        """Return the image of a file: that of the id if its name is this, else by the stem."""
        record = self._truth.records.get(image_id)
        if record and Path(record.file_name).name == Path(file_name).name:
            return image_id
        return self.by_stem(Path(file_name).stem)

    def by_stem(self, stem: str):
        """Return the image whose file name has this stem, None if there is none.

        Raises:
            DatasetError: there are several.
        """
        ids = self._by_stem.get(stem, [None])
        if len(ids) > 1:
            names = [self._truth.records[image_id].file_name for image_id in ids]
            raise DatasetError(
                f"{self._truth.where}: {_some(names)} have the same stem, by which predictions are "
                "paired. Rename them, or give COCO results, which are paired by image_id."
            )
        return ids[0]

    def pair(self, names: Mapping, find: Callable) -> dict:
        """Return ``{key: image_id}`` of the keys of ``names``, found by ``find(key)``.

        Args:
            names: what errors call the image of each key.
            find: gives the image of the truth, None if there is none.

        Raises:
            DatasetError: a key is of no image, or two are of the same one.
        """
        pairs = {key: find(key) for key in names}
        unknown = [names[key] for key, image_id in pairs.items() if image_id is None]
        if unknown:
            there = [f"{key} ({each.file_name})" for key, each in self._truth.records.items()]
            raise DatasetError(
                f"{self._where}: has predictions of {len(unknown)} images that {self._truth.where} "
                f"does not have: {_some(unknown)}. It has {_some(there)}. Give both "
                "of the same data set; what follows an image's name in that of a label map is told "
                "by --suffix and --truth-suffix."
            )
        if len(set(pairs.values())) < len(pairs):
            raise DatasetError(
                f"{self._where}: several of its images are the same one of the truth."
            )
        return pairs

    def check_complete(self, found: Iterable, allow_missing: bool) -> None:
        """Check that all images of the ground truth are found; some may be missing with a warning.

        Raises:
            DatasetError: images are missing and may not.
        """
        found, records = set(found), self._truth.records
        missing = [record.file_name for key, record in records.items() if key not in found]
        if missing and not allow_missing:
            raise DatasetError(
                f"{self._where}: has no prediction for {len(missing)} of the {len(records)} images "
                f"of {self._truth.where}: {_some(missing)}. Predict them, or count them as empty "
                "with --allow-missing."
            )
        if missing:
            logger.warning(
                f"{self._where}: {len(missing)} of {len(records)} images are missing and count as "
                f"empty: {_some(missing)}."
            )


def _some(names: Iterable) -> str:
    names = list(names)
    return ", ".join(map(str, names[:3])) + (" ..." if len(names) > 3 else "")

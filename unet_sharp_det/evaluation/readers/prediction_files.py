"""Opening ground truth and predictions of any tool from files, and matching them."""

import logging
import os
import reprlib
from collections import defaultdict
from pathlib import Path

from tqdm import tqdm

from ...data.coco_json import check_coco, is_box, is_finite, is_id
from ...errors import DatasetError
from ...files import read_json
from ..coco.truth import CocoTruth, Truth
from ..instances.matching import InstanceOverlap
from ..record import EvaluationOptions
from .label_folders import FORMATS, LabelFolderTruth, find_label_maps
from .pairing import ImagePairing
from .predictions import CocoPredictions, LabelMapPredictions, Predictions, SemanticPredictions

_KINDS = (
    "a list of COCO results (image_id, score, segmentation), a COCO data set, the "
    "semantic_predictions.json of a semantic model, or a folder of label maps "
    f"({', '.join(FORMATS)})"
)
SECONDS_BEFORE_A_BAR = 3

logger = logging.getLogger(__name__)


def open_truth(path, suffix: str | None = None) -> Truth:
    """Open ground truth: a COCO json, or a folder of label maps.

    Args:
        path: of the file or folder.
        suffix: of label maps, see :func:`find_label_maps`.

    Raises:
        DatasetError: it is missing, in another format, or without images.
    """
    if Path(path).is_dir():
        return LabelFolderTruth(path, suffix)
    _refuse_pictures(path)
    return CocoTruth(path)


def open_predictions(
    path,
    truth: Truth,
    options: EvaluationOptions,
    suffix: str | None = None,
    allow_missing: bool = False,
) -> Predictions:
    """Open the predictions of a tool.

    Images are those of the ground truth with the same ``image_id`` (COCO results; for a folder
    of label maps as truth the stem of the name), the same file name or else its stem (COCO data
    sets), or the stem (label maps).

    Args:
        path: a list of COCO results, in which an image without an entry has no detection; a COCO
            data set, whose annotations are predictions, with scores if each has a "score"; the
            ``semantic_predictions.json`` of :class:`SemanticEvaluator`; or a folder of label maps.
        truth: what they are to be compared with.
        options: the least score and area of objects that count.
        suffix: of label maps, see :func:`find_label_maps`.
        allow_missing: take images that are missing, but for COCO results, for empty ones.

    Raises:
        DatasetError: the predictions are missing, malformed, of images that the truth does not
            have, or without some that it has.
    """
    if Path(path).is_dir():
        return _open_folder(path, truth, options, suffix, allow_missing)
    _refuse_pictures(path)
    content, where = read_json(path, remedy=f"Give {_KINDS}."), os.fspath(path)
    if isinstance(content, dict) and "annotations" in content:
        return _open_data_set(content, truth, options, where, allow_missing)
    if not isinstance(content, list) or not all(isinstance(entry, dict) for entry in content):
        raise DatasetError(f"{where}: holds no predictions. Give {_KINDS}.")
    if content and all("channel" in entry and "score" not in entry for entry in content):
        return _open_semantic(content, truth, options, where, allow_missing)
    return _open_results(content, truth, options, where)


def match_images(
    truth: Truth, predictions: Predictions, options: EvaluationOptions
) -> list[InstanceOverlap]:
    """Match the objects of each image, in the order of ``truth.records``.

    Raises:
        DatasetError: a mask or label map is malformed, or not of the image's size.
    """
    images = tqdm(truth.records.items(), desc="matching", unit="image", delay=SECONDS_BEFORE_A_BAR)
    return [
        InstanceOverlap.count(
            truth.instance_map(image_id),
            predictions.instance_map(image_id),
            image_id=image_id,
            file_name=record.file_name,
            void=truth.void(image_id),
            boundary_tolerance=options.boundary_tolerance,
        )
        for image_id, record in images
    ]


def check_entry(entry: dict, name: str, *, with_score: bool) -> None:
    """Check a COCO result, annotation or mask, but for what depends on its image.

    Args:
        entry: as JSON holds it.
        name: what the errors call it.
        with_score: whether it needs a score.

    Raises:
        DatasetError: a value is missing or of another type.
    """
    needed = {"image_id", *(["score"] if with_score else [])}
    lacking = needed - set(entry) if isinstance(entry, dict) else needed
    if lacking:
        raise DatasetError(f"{name} has no {', '.join(sorted(lacking))}. Give {_KINDS}.")
    name = f"{name} of image {reprlib.repr(entry['image_id'])}"
    if not is_id(entry["image_id"]):
        raise DatasetError(f"{name}: an image_id must be a whole number or a text.")
    if not entry.get("segmentation"):
        raise DatasetError(
            f"{name} has no segmentation: these measures compare masks, boxes alone do not do."
        )
    if with_score and not is_finite(entry["score"]):
        raise DatasetError(
            f"{name} has the score {reprlib.repr(entry['score'])}, which has no rank. Write a "
            "finite number."
        )


def _open_folder(path, truth, options, suffix, allow_missing) -> LabelMapPredictions:
    pairing = ImagePairing(truth, os.fspath(path))
    files = find_label_maps(path, suffix, known=pairing.stems)
    ids = pairing.pair({stem: stem for stem in files}, pairing.by_stem)
    pairing.check_complete(ids.values(), allow_missing)
    by_image = {ids[stem]: files[stem] for stem in files}
    return LabelMapPredictions(by_image, truth, options, os.fspath(path))


def _open_results(content: list[dict], truth, options, where: str) -> CocoPredictions:
    named = []
    for number, entry in enumerate(content):
        name = f"{where}: result {number} (counted from 0)"
        check_entry(entry, name, with_score=True)
        if "bbox" in entry and not is_box(entry["bbox"]):
            raise DatasetError(
                f"{name} has the bbox {reprlib.repr(entry['bbox'])}. Write its x, y, width and "
                "height in pixels."
            )
        named.append((name, entry))
    if not content:
        logger.warning(f"{where}: holds no detection, so every object counts as missed.")
    pairing = ImagePairing(truth, where)
    names = {entry["image_id"]: entry["image_id"] for entry in content}
    ids = pairing.pair(names, pairing.by_id)
    return CocoPredictions(_group(named, ids), truth, options, where, has_scores=True)


def _open_semantic(content, truth, options, where: str, allow_missing) -> SemanticPredictions:
    for number, entry in enumerate(content):
        name = f"{where}: mask {number} (counted from 0)"
        check_entry(entry, name, with_score=False)
        for key in ("channel", "file_name"):
            if not isinstance(entry.get(key, ""), str):
                raise DatasetError(f"{name} has the {key} {entry[key]!r}, write a text.")
    pairing = ImagePairing(truth, where)
    names = {entry["image_id"]: entry.get("file_name", "") for entry in content}
    ids = pairing.pair(names, lambda image_id: pairing.by_file(names[image_id], image_id))
    pairing.check_complete(ids.values(), allow_missing)
    masks = defaultdict(dict)
    for entry in content:
        image_id, channel = ids[entry["image_id"]], entry["channel"]
        if channel in masks[image_id]:
            raise DatasetError(f"{where}: repeats a channel of the image {image_id}.")
        masks[image_id][channel] = entry["segmentation"]
    logger.info(f"{where}: the 4-connected components of its masks count as objects.")
    by_image = {image_id: list(channels.values()) for image_id, channels in masks.items()}
    return SemanticPredictions(by_image, truth, options, where)


def _open_data_set(content: dict, truth, options, where: str, allow_missing) -> CocoPredictions:
    check_coco(content, where)
    annotations = [each for each in content["annotations"] if not each["iscrowd"]]
    scored = sum("score" in annotation for annotation in annotations)
    if 0 < scored < len(annotations):
        raise DatasetError(
            f"{where}: {scored} of {len(annotations)} annotations have a 'score', give all or none."
        )
    named = []
    for each in annotations:
        name = f"{where}: the annotation with id {each['id']}"
        check_entry(each, name, with_score=scored > 0)
        named.append((name, each))
    pairing = ImagePairing(truth, where)
    names = {image["id"]: image["file_name"] for image in content["images"]}
    ids = pairing.pair(names, lambda image_id: pairing.by_file(names[image_id], image_id))
    pairing.check_complete(ids.values(), allow_missing)
    _check_sizes(content["images"], ids, truth, where)
    return CocoPredictions(_group(named, ids), truth, options, where, has_scores=scored > 0)


def _group(named: list[tuple], ids: dict) -> dict:
    """Return pairs of a name and an entry by the truth's image id."""
    by_image = defaultdict(list)
    for name, entry in named:
        by_image[ids[entry["image_id"]]].append((name, entry))
    return dict(by_image)


def _check_sizes(images: list[dict], ids: dict, truth: Truth, where: str) -> None:
    for image in images:
        found, shape = (image["height"], image["width"]), truth.record(ids[image["id"]]).shape
        if found != tuple(shape):
            raise DatasetError(
                f"{where}: {image['file_name']} has (height, width) {found}, but {tuple(shape)} in "
                f"{truth.where}: is it the same data set?"
            )


def _refuse_pictures(path) -> None:
    if Path(path).suffix.lower() in FORMATS:
        raise DatasetError(f"{path}: is one label map, give the folder that it is in.")

"""DSB2018 as one small file, without loss.

Images that are gray or opaque in 8 bit become lossless WebP, which OpenCV reads: of the 467 images
two thirds of what they take as PNG files. What the converter makes of the masks, the COCO json
files, is packed in place of the masks; label maps are painted from it again.

The file is a zip archive of ``index.json``, ``annotations/*.json`` and ``packed/images/*``.
"""

import errno
import hashlib
import json
import zipfile
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from unet_sharp_det.data.dsb2018_convert import SPLITS, encode_label_map
from unet_sharp_det.errors import DatasetError
from unet_sharp_det.files import atomic_folder, atomic_path, safe_join
from unet_sharp_det.images.decoding import read_stored

_FORMAT = 1
_WEBP_SIDE = 16383
_LOSSLESS = [cv2.IMWRITE_WEBP_QUALITY, 101]
_ANNOTATIONS = [f"annotations/dsb2018_{split}.json" for split in SPLITS]
_REPORT = "annotations/report.json"


def pack_dsb2018(root, path) -> int:
    """Pack a converted DSB2018 into one file, atomically.

    Args:
        root: the folder that ``convert_dsb2018`` wrote.
        path: the file to write.

    Returns:
        the number of images.

    Raises:
        DatasetError: ``root`` lacks one of the converter's files or holds no image, or an image
            cannot be decoded.
    """
    root = Path(root)
    documents = {name: _read_bytes(root / name) for name in [*_ANNOTATIONS, _REPORT]}
    images, index = _images(documents), []
    if not images:
        raise DatasetError(f"{root}: its json files have no image. Convert DSB2018 to it again.")
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for image in images:
            name = image["file_name"]
            entry, content = _pack_image(safe_join(root, name, str(root)))
            index.append({"file_name": name, **entry})
            archive.writestr(_member(name), content, zipfile.ZIP_STORED)
        documents["index.json"] = json.dumps({"format": _FORMAT, "images": index}).encode()
        for name, content in documents.items():
            archive.writestr(name, content, zipfile.ZIP_LZMA)
    return len(index)


def unpack_dsb2018(path, root) -> None:
    """Write what :func:`pack_dsb2018` packed as the folder that it was packed from.

    The json files have the same bytes, the images the same pixels (those of a converter's PNG
    files, in other bytes), and the label maps are those that the converter writes.

    Args:
        path: the packed file.
        root: the folder to write; it appears when it is complete, in place of one that exists.

    Raises:
        DatasetError: the file cannot be read, is damaged, or of another format, an image
            decodes to other pixels than those that were packed, or the disk is full.
    """
    try:
        with zipfile.ZipFile(path) as archive, atomic_folder(root) as folder:
            _unpack(archive, folder, str(path))
    except (OSError, zipfile.BadZipFile, KeyError, EOFError) as error:
        if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            raise DatasetError(
                f"{root}: there is no room for the images of {path}. Make some, or let "
                "BUNDLE_STATE name a folder that has room."
            ) from error
        raise DatasetError(
            f"{path}: cannot be unpacked ({error}). Copy it again, or make the bundle anew."
        ) from error


def _unpack(archive: zipfile.ZipFile, folder: Path, where: str) -> None:
    index = json.loads(archive.read("index.json"))
    if index["format"] != _FORMAT:
        raise DatasetError(
            f"{where}: is of format {index['format']}, this version reads {_FORMAT}. Pack it anew."
        )
    documents = {name: archive.read(name) for name in [*_ANNOTATIONS, _REPORT]}
    for name, content in documents.items():
        _write_bytes(folder / name, content)
    for entry in index["images"]:
        target = safe_join(folder, entry["file_name"], where)
        packed = archive.read(_member(entry["file_name"]))
        _write_bytes(target, _unpack_image(entry, packed, where))
    _write_label_maps(folder, documents)


def _pack_image(path: Path) -> tuple[dict, bytes]:
    """Return an image's entry of the index, and the smallest form of it."""
    original, pixels = _read_bytes(path), _swap_red_and_blue(read_stored(path))
    kind = _kind(pixels)
    if kind != "file":
        packed = cv2.imencode(".webp", _as_bgr(pixels), _LOSSLESS)[1].tobytes()
        if len(packed) < len(original):
            return {"kind": kind, "sha256": _digest(pixels)}, packed
    return {"kind": "file", "sha256": hashlib.sha256(original).hexdigest()}, original


def _kind(pixels: np.ndarray) -> str:
    """Return ``gray``, ``colour``, ``opaque``, or ``file``: what lossless WebP has no form for."""
    if pixels.dtype != np.uint8 or max(pixels.shape) > _WEBP_SIDE:
        return "file"
    if pixels.ndim == 2:
        return "gray"
    if pixels.shape[2] == 3:
        return "colour"
    return "opaque" if pixels.shape[2] == 4 and pixels[:, :, 3].min() == 255 else "file"


def _swap_red_and_blue(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2 or pixels.shape[2] == 2:
        return pixels
    return np.ascontiguousarray(pixels[:, :, [2, 1, 0, 3][: pixels.shape[2]]])


def _as_bgr(pixels: np.ndarray) -> np.ndarray:
    if pixels.ndim == 2:
        return cv2.cvtColor(pixels, cv2.COLOR_GRAY2BGR)
    return np.ascontiguousarray(pixels[:, :, :3])


def _unpack_image(entry: dict, packed: bytes, where: str) -> bytes:
    if entry["kind"] == "file":
        content, digest = packed, hashlib.sha256(packed).hexdigest()
    else:
        pixels = _from_bgr(cv2.imdecode(np.frombuffer(packed, np.uint8), cv2.IMREAD_COLOR), entry)
        content, digest = cv2.imencode(".png", pixels)[1].tobytes(), _digest(pixels)
    if digest != entry["sha256"]:
        raise DatasetError(
            f"{where}: the image '{entry['file_name']}' is not the one that was packed, so the "
            f"file is damaged or OpenCV {cv2.__version__} reads WebP otherwise. Copy it again."
        )
    return content


def _from_bgr(bgr: np.ndarray, entry: dict) -> np.ndarray:
    if entry["kind"] == "gray":
        return np.ascontiguousarray(bgr[:, :, 0])
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2BGRA) if entry["kind"] == "opaque" else bgr


def _write_label_maps(folder: Path, documents: dict[str, bytes]) -> None:
    for name in _ANNOTATIONS:
        coco = json.loads(documents[name])
        nuclei = defaultdict(list)
        for annotation in coco["annotations"]:
            nuclei[annotation["image_id"]].append(annotation)
        for image in coco["images"]:
            shape = (image["height"], image["width"])
            content = encode_label_map(nuclei[image["id"]], shape, image["file_name"])
            _write_bytes(folder / "semantic" / Path(image["file_name"]).name, content)


def _images(documents: dict[str, bytes]) -> list[dict]:
    return [image for name in _ANNOTATIONS for image in json.loads(documents[name])["images"]]


def _member(file_name: str) -> str:
    return f"packed/{file_name}"


def _digest(pixels: np.ndarray) -> str:
    return hashlib.sha256(repr(pixels.shape).encode() + pixels.tobytes()).hexdigest()


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(
            f"{path}: cannot be read ({error.strerror}). Expected a folder that "
            "datasets/prepare_dsb2018.py wrote."
        ) from error


def _write_bytes(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)

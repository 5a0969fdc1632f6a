"""From a scan to what :class:`VolumeSegmentor` takes: patches to train on, or the whole volume."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from monai import transforms as M
from torch import Tensor

from ..errors import ConfigError, DatasetError
from ..masks import distance_bands
from ..modeling.semantic_labels import SemanticLabels
from ..volumes import Volume, read_labels, read_volume, resample

KEYS = ("image", "sem_seg")
#: From this ratio on, of a patch's sides as of a voxel's, the slices are what is augmented
#: (nnU-Net's threshold of anisotropy: Isensee et al., Nature Methods 2021).
ANISOTROPIC = 3
#: Voxels of each label that are remembered as the middle of patches.
_CENTRES = 10_000
#: The least share of patches of foreground and of background: 0 would draw nothing from a scan that
#: has but the other.
_LEAST_SHARE = 1e-9


class VolumeMapper:
    """Reads volumes, normalises and resamples them, and cuts out and augments patches (MONAI).

    What is drawn comes from numpy's global generator, which a replayable stream seeds. Beside the
    losses on test volumes (``with_targets``, not ``is_train``) every volume gives one patch, the
    same at every call.
    """

    @configurable
    def __init__(
        self,
        is_train: bool = True,
        *,
        labels: SemanticLabels,
        patch_size: Sequence[int],
        channels: int = 1,
        spacing: Sequence[float] = (),
        window: Sequence[float] = (),
        foreground_ratio: float = 0.5,
        flip_axes: Sequence[int] = (0, 1, 2),
        augment_prob: float = 0.3,
        cache: int = 8,
        with_targets: bool | None = None,
    ):
        """
        Args:
            labels: those that the model knows.
            patch_size: (D, H, W) in voxels.
            channels: of the volumes.
            spacing, ...: see the keys of the same names in ``INPUT.VOLUME``; () where it is [].
            with_targets: whether labels are read and patches cut out. None: in training only.

        Raises:
            ConfigError: a value is out of its range.
        """
        _check("PATCH_SIZE", patch_size, (3,), "three whole sides above 0", lambda n: n >= 1)
        _check("SPACING", spacing, (0, 3), "[], or three sides in mm above 0", lambda n: n > 0)
        _check("WINDOW", window, (0, 2), "[], or [low, high]", math.isfinite)
        _check("FLIP_AXES", flip_axes, range(4), "axes of 0, 1, 2", lambda n: n in (0, 1, 2))
        for name, share in (("FOREGROUND_RATIO", foreground_ratio), ("AUGMENT_PROB", augment_prob)):
            _check(name, [share], (1,), "a number from 0 to 1", lambda n: 0 <= n <= 1)
        self.is_train = is_train
        self.with_targets = is_train if with_targets is None else with_targets
        self.labels = labels
        self.patch_size = tuple(patch_size)
        self.channels = channels
        self.spacing = tuple(spacing)
        self.cache = cache
        self._kept: dict[tuple, dict] = {}
        if window:
            self._normalise = M.ScaleIntensityRange(*window, -1, 1, clip=True)
        else:
            self._normalise = M.NormalizeIntensity(nonzero=True, channel_wise=True)
        self._pad = M.Compose(
            [
                M.SpatialPadd("image", patch_size, mode="edge"),
                M.SpatialPadd("sem_seg", patch_size, constant_values=labels.ignore_value),
            ]
        )
        count = max(labels.allowed) + 1
        self._find_centres = M.ClassesToIndices(count, max_samples_per_class=_CENTRES)
        background = min(max(1 - foreground_ratio, _LEAST_SHARE), 1 - _LEAST_SHARE)
        foreground = (1 - background) / (len(labels.allowed) - 1)
        ratios = [foreground if label in labels.allowed else 0 for label in range(1, count)]
        steps = [
            M.RandCropByLabelClassesd(
                KEYS,
                "sem_seg",
                patch_size,
                [background, *ratios],
                count,
                indices_key="centres",
                warn=False,
            )
        ]
        if is_train:
            steps += [M.RandFlipd(KEYS, prob=0.5, spatial_axis=axis) for axis in flip_axes]
            steps += self._augmentations(augment_prob)
        self._cut_out = M.Compose(steps)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        keys = {key.lower(): value for key, value in cfg.INPUT.VOLUME.items()}
        channels, labels = len(cfg.MODEL.PIXEL_MEAN), SemanticLabels.from_config(cfg)
        return {"is_train": is_train, "labels": labels, "channels": channels, **keys}

    def __call__(self, record: dict) -> dict:
        """Map a dataset dict with "volume_files", which is not changed.

        Returns:
            the dict with "image", float32 (C, d, h, w), and with "sem_seg", int64 (d, h, w); or,
            without targets, with "size", the (D, H, W) of the volume before it was resampled.

        Raises:
            DatasetError: a file cannot be read, is of another geometry, has other channels or
                labels than the model, or voxels too long for the patches.
        """
        if not self.with_targets:
            volume = read_volume(record["volume_files"])
            image = self.prepare(volume, record["file_name"])
            return {**record, "image": image, "size": volume.array.shape[1:]}
        self._cut_out.set_random_state(np.random.randint(2**31) if self.is_train else 0)
        (patch,) = self._cut_out(self._read(record))
        image, labels = (patch[key].as_tensor() for key in KEYS)
        return {**record, "image": image.float().clone(), "sem_seg": labels[0].long()}

    def prepare(self, volume: Volume, where: str = "the volume") -> Tensor:
        """Normalise and resample a volume: float32 (C, d, h, w)."""
        if len(volume.array) != self.channels:
            raise DatasetError(
                f"{where}: has {len(volume.array)} channels, but the model {self.channels}. Set "
                "MODEL.PIXEL_MEAN and PIXEL_STD, which have a number per channel."
            )
        array = self._normalise(volume.array.astype(np.float32)).as_tensor().numpy()
        volume = self._resample(Volume(array, volume.geometry, volume.native))
        self._check_voxels(volume, where)
        return torch.from_numpy(volume.array)

    def check_records(self, records: Iterable[dict], name: str) -> None:
        """Raise a DatasetError if a record of a data set has no labels."""
        for record in records:
            if "label_file" not in record:
                raise DatasetError(
                    f"{record['file_name']}: has no labels. Give its case a 'label' in the data "
                    "set's dataset.json, or move it to a split that is only predicted."
                )

    def has_objects(self, record: dict) -> bool:
        """Always: labels are not read before."""
        return True

    def _read(self, record: dict) -> dict:
        """The volume, prepared and padded, with its labels and their voxels; kept in memory."""
        key = tuple(record["volume_files"])
        if key in self._kept:
            return self._kept[key]
        volume = read_volume(record["volume_files"])
        labels = read_labels(record["label_file"], like=volume)
        if not self.labels.finds_objects:
            held = torch.from_numpy(np.unique(labels.array).astype(np.int64))
            self.labels.check(held, record["label_file"])
        array = labels.array.astype(np.int32)
        labels = self._resample(Volume(array, labels.geometry, labels.native), is_labels=True)
        array = labels.array
        if self.labels.finds_objects:
            spacing = labels.geometry.spacing[::-1]
            array = distance_bands(array[0], self.labels.bands, spacing)[None]
        image = self.prepare(volume, record["file_name"])
        item = self._pad({"image": image, "sem_seg": torch.from_numpy(array.astype(np.int16))})
        item["centres"] = self._find_centres(item["sem_seg"])
        if len(self._kept) < self.cache:
            self._kept[key] = item
        return item

    def _resample(self, volume: Volume, is_labels: bool = False) -> Volume:
        return resample(volume, self.spacing[::-1], is_labels) if self.spacing else volume

    def _check_voxels(self, volume: Volume, where: str) -> None:
        """Of voxels that are no cubes, a 3D patch must have fewer slices than rows."""
        x, y, z = self.spacing[::-1] or volume.geometry.spacing
        if 1 < self.patch_size[0] and z / min(x, y) > ANISOTROPIC and not self._is_flat:
            depth, *sides = self.patch_size
            raise DatasetError(
                f"{where}: its voxels are {z:.3g} mm high and {x:.3g} mm wide, too long for "
                f"patches of {depth} slices. Set INPUT.VOLUME.SPACING, or PATCH_SIZE to "
                f"{[max(2, max(sides) // ANISOTROPIC), *sides]}."
            )

    @property
    def _is_flat(self) -> bool:
        return max(self.patch_size) >= ANISOTROPIC * self.patch_size[0]

    def _augmentations(self, prob: float) -> list:
        """Geometry, of flat patches slice by slice alike, then intensity."""
        axes = 1 if self._is_flat else 3
        modes = {"mode": ("bilinear", "nearest"), "padding_mode": "border"}
        geometry = [
            M.RandAffined(
                KEYS,
                prob=prob,
                rotate_range=[math.pi / 12] * axes,
                scale_range=[0.15] * (2 if self._is_flat else 3),
                **modes,
            ),
            M.RandGridDistortiond(KEYS, prob=prob, distort_limit=0.1, **modes),
        ]
        if self._is_flat:  # Slices as channels, which are all moved alike.
            depth, *sides = self.patch_size
            fold = M.Lambdad(KEYS, lambda x: x.reshape(-1, *sides))
            unfold = M.Lambdad(KEYS, lambda x: x.reshape(-1, depth, *sides))
            geometry = [fold, *geometry, unfold]
        return [
            *geometry,
            M.RandScaleIntensityd("image", prob=prob, factors=0.1),
            M.RandShiftIntensityd("image", prob=prob, offsets=0.1),
            M.RandAdjustContrastd("image", prob=prob, gamma=(0.7, 1.5)),
            M.RandGaussianNoised("image", prob=prob, std=0.1),
        ]


def _check(key: str, values: Sequence, lengths: Iterable[int], wanted: str, is_right) -> None:
    if len(values) not in lengths or not all(map(is_right, values)):
        raise ConfigError(f"INPUT.VOLUME.{key} is {list(values)}, but takes {wanted}.")

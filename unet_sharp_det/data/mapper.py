"""The step from a dataset dict to what a model is trained on, for microscopy images."""

import copy
from collections.abc import Iterable

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper
from detectron2.data import detection_utils as utils
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Boxes, Instances

from ..errors import ConfigError, DatasetError
from ..images.decoding import read_image
from ..images.intensity import check_image_format
from ..modeling.semantic_labels import PIXEL_WISE, SemanticLabels
from .augmentation import build_augmentations
from .label_maps import IGNORED, check_label_maps, paint_distances, read_label_map


class NucleiDatasetMapper(DatasetMapper):
    """detectron2's ``DatasetMapper``, but images are read by :func:`read_image`, and label maps by
    :func:`read_label_map`; images and crops without nuclei survive as background; masks are
    bitmasks, which hold RLE. Keypoints and proposals are not supported."""

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: list[T.Augmentation | T.Transform],
        image_format: str,
        use_instance_mask: bool = True,
        instance_mask_format: str = "bitmask",
        recompute_boxes: bool = True,
        semantic: SemanticLabels | None = None,
        use_instances: bool = True,
        with_targets: bool | None = None,
        channels: int | None = None,
    ):
        """
        Args:
            augmentations: applied in order to images of dtype uint8 and shape (H, W, C).
            image_format: ``"BGR"``, ``"RGB"``, ``"L"`` or ``"CHANNELS"``.
            use_instance_mask: whether the model takes masks.
            instance_mask_format: must be ``"bitmask"`` if masks are used.
            recompute_boxes: whether boxes are fitted to the masks after the augmentations, which
                cropping makes necessary. Needs masks.
            semantic: the labels that a semantic model knows; None: it takes no label maps.
            use_instances: whether the model takes instances. If not, the arguments about masks
                and boxes mean nothing.
            with_targets: whether annotations are mapped too, which the loss on test images needs.
                None: in training only.
            channels: how many the model sees, which images must have; None: it is not checked.

        Raises:
            ConfigError: a value is out of its options, or the values contradict each other.
        """
        if use_instances and use_instance_mask and instance_mask_format != "bitmask":
            raise ConfigError(
                f"INPUT.MASK_FORMAT is '{instance_mask_format}', which holds no RLE. Set "
                "INPUT.MASK_FORMAT: bitmask."
            )
        labels = [] if semantic is None else [*semantic.allowed, semantic.ignore_value]
        if labels and not 0 <= min(labels) <= max(labels) <= IGNORED:
            raise ConfigError(
                f"MODEL.SEM_SEG_HEAD has labels out of 0..{IGNORED}: {min(labels)} to "
                f"{max(labels)}. Change NUM_CLASSES, REGIONS or IGNORE_VALUE."
            )
        super().__init__(
            is_train,
            augmentations=augmentations,
            image_format=check_image_format(image_format),
            use_instance_mask=use_instance_mask,
            instance_mask_format=instance_mask_format,
            recompute_boxes=use_instances and recompute_boxes,
        )
        self.semantic = semantic
        self.use_instances = use_instances
        self.with_targets = is_train if with_targets is None else with_targets
        self.channels = channels

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        architecture = cfg.MODEL.META_ARCHITECTURE
        is_semantic = architecture in (*PIXEL_WISE, "PanopticFPN")
        return {
            "is_train": is_train,
            "augmentations": build_augmentations(cfg, is_train),
            "image_format": cfg.INPUT.FORMAT,
            "use_instance_mask": cfg.MODEL.MASK_ON,
            "instance_mask_format": cfg.INPUT.MASK_FORMAT,
            "recompute_boxes": is_train and cfg.INPUT.CROP.ENABLED and cfg.MODEL.MASK_ON,
            "semantic": SemanticLabels.from_config(cfg) if is_semantic else None,
            "use_instances": architecture not in PIXEL_WISE,
            "channels": len(cfg.MODEL.PIXEL_MEAN),
        }

    def __call__(self, dataset_dict: dict) -> dict:
        """Map one dataset dict of detectron2, which is not changed.

        Returns:
            the dict with ``image``, a uint8 tensor of shape (C, H, W), and with targets, in place
            of ``annotations``, ``instances``, ``sem_seg`` (an int64 tensor (H, W)), or both.

        Raises:
            DatasetError: the image or its label map cannot be read, has another size than the dict
                says or labels that the model does not know, or an annotation lacks its mask.
        """
        dataset_dict = copy.deepcopy(dataset_dict)
        image = read_image(dataset_dict["file_name"], self.image_format)
        try:
            utils.check_image_size(dataset_dict, image)
        except utils.SizeMismatchError as error:
            raise DatasetError(str(error)) from error
        if self.channels not in (None, image.shape[2]):
            raise DatasetError(
                f"{dataset_dict['file_name']}: has {image.shape[2]} channels, but the model sees "
                f"{self.channels}. Set INPUT.FORMAT, MODEL.PIXEL_MEAN and PIXEL_STD for it."
            )
        labels = self._read_labels(dataset_dict) if self.semantic and self.with_targets else None
        aug_input = T.AugInput(image, sem_seg=labels)
        transforms = self.augmentations(aug_input)
        image = aug_input.image
        dataset_dict["image"] = torch.as_tensor(np.ascontiguousarray(image.transpose(2, 0, 1)))
        if aug_input.sem_seg is not None:
            labels = np.ascontiguousarray(aug_input.sem_seg, dtype=np.int64)
            dataset_dict["sem_seg"] = torch.as_tensor(labels)
        if not (self.with_targets and self.use_instances):
            dataset_dict.pop("annotations", None)
        elif "annotations" in dataset_dict:
            self._transform_annotations(dataset_dict, transforms, image.shape[:2])
        return dataset_dict

    def check_records(self, records: list[dict], name: str) -> None:
        """Raise a DatasetError if a data set lacks a mask that is needed, or its label maps cannot
        be meant, see :func:`check_label_maps`."""
        self.check_masks(records)
        if self.semantic is not None and not self.semantic.finds_objects:
            check_label_maps(records, self.semantic, name)

    def has_objects(self, record: dict) -> bool:
        """Whether a dataset dict has an object, or for a semantic model a file that may have."""
        has_file = not self.use_instances and self._uses_label_file(record)
        annotations = record.get("annotations", ())
        return has_file or any(not each.get("iscrowd", 0) for each in annotations)

    def check_masks(self, records: Iterable[dict]) -> None:
        """Raise a DatasetError if an annotation of dataset dicts lacks a mask that is needed."""
        learns_masks = self.use_instances and self.use_instance_mask
        for record in records:
            paints_labels = self.semantic is not None and not self._uses_label_file(record)
            annotations = record.get("annotations", ()) if learns_masks or paints_labels else ()
            for annotation in annotations:
                if "segmentation" not in annotation:
                    name = f" (id {annotation['id']!r})" if "id" in annotation else ""
                    raise DatasetError(
                        f"{record['file_name']}: has an annotation{name} without 'segmentation'. "
                        "Annotate its mask, or set MODEL.MASK_ON: False."
                    )

    def _uses_label_file(self, record: dict) -> bool:
        return not self.semantic.finds_objects and bool(record.get("sem_seg_file_name"))

    def _read_labels(self, dataset_dict: dict) -> np.ndarray:
        if self.semantic.finds_objects:
            return paint_distances(dataset_dict, self.semantic)
        labels = read_label_map(dataset_dict)
        where = dataset_dict.get("sem_seg_file_name") or dataset_dict["file_name"]
        self.semantic.check(torch.as_tensor(np.unique(labels).astype(np.int64)), where)
        # Of any other type, detectron2 would sample another grid than of the image, or fail.
        return labels.astype(np.uint8)

    def _transform_annotations(self, dataset_dict, transforms, image_shape) -> None:
        nuclei = [a for a in dataset_dict["annotations"] if a.get("iscrowd", 0) == 0]
        self.check_masks([{**dataset_dict, "annotations": nuclei}])
        if nuclei:
            super()._transform_annotations(dataset_dict, transforms, image_shape)
        else:
            del dataset_dict["annotations"]
            # With gt_masks, which detectron2's annotations_to_instances leaves out.
            instances = dataset_dict["instances"] = Instances(image_shape)
            instances.gt_boxes = Boxes(torch.zeros(0, 4))
            instances.gt_classes = torch.zeros(0, dtype=torch.int64)
            if self.use_instance_mask:
                instances.gt_masks = BitMasks(torch.zeros(0, *image_shape, dtype=torch.bool))

"""Instances without boxes: a semantic model learns depth, a watershed makes objects of it."""

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, SemanticSegmentor
from torch import Tensor

from ..errors import ConfigError
from ..masks.border import objects_from_border
from ..masks.depth import objects_from_depth
from ..masks.instances import SparseInstances


@META_ARCH_REGISTRY.register()
class WatershedSegmentor(SemanticSegmentor):
    """detectron2's ``SemanticSegmentor`` with a :class:`.SegmentationHead` that learns depth.

    Its objects do not overlap, and have one class.

    Example::

        >>> import torch
        >>> from unet_sharp_det.config import setup_cfg
        >>> from unet_sharp_det.modeling import WatershedSegmentor
        >>> opts = ["MODEL.UNET.CHANNELS", "[4, 4, 4, 4, 4]", "MODEL.DEVICE", "cpu"]
        >>> cfg = setup_cfg("Base-UNet-Nuclei.yaml", opts)
        >>> cfg.MODEL.SEM_SEG_HEAD.TARGET, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = "depth", 4
        >>> model = WatershedSegmentor(cfg).eval()
        >>> (output,) = model([{"image": torch.zeros(3, 45, 30)}])
        >>> output["instances"].pred_masks.shape[1:]
        torch.Size([45, 30])
    """

    @configurable
    def __init__(self, **parts):
        """Take the arguments of ``SemanticSegmentor``; its head's labels have the target depth.

        Raises:
            ConfigError: the head learns something else.
        """
        super().__init__(**parts)
        labels = getattr(self.sem_seg_head, "labels", None)
        if labels is None or labels.target == "labels":
            raise ConfigError(
                "WatershedSegmentor makes objects of depth, which its head does not learn. Set "
                "MODEL.SEM_SEG_HEAD.NAME: UNetSharpHead and TARGET: depth."
            )

    @property
    def target(self) -> str:
        return self.sem_seg_head.labels.target

    def forward(self, batched_inputs: list[dict]):
        """
        Args:
            batched_inputs: of detectron2's ``SemanticSegmentor``.

        Returns:
            In training the losses by name; else a list of {"instances": detectron2's Instances with
            ``pred_masks`` bool (N, H, W), on the CPU}.
        """
        if self.training:
            return super().forward(batched_inputs)
        return [
            {"instances": find_objects(probabilities, self.target).to_instances()}
            for probabilities in self.probabilities(batched_inputs)
        ]

    def probabilities(self, batched_inputs: list[dict]) -> list[Tensor]:
        """Return of each image (bands, H, W), see :func:`.objects_from_depth`; in eval mode."""
        return [output["sem_seg"] for output in super().forward(batched_inputs)]


def find_objects(probabilities: Tensor, target: str = "depth") -> SparseInstances:
    """Return the objects of an image from probabilities (bands, H, W)."""
    find = objects_from_border if target == "border" else objects_from_depth
    return SparseInstances.from_label_map(*find(probabilities.float().cpu().numpy()))

"""Instances without boxes: a semantic model learns distances, a watershed makes objects of them."""

from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, SemanticSegmentor
from torch import Tensor

from ..errors import ConfigError
from ..masks import SparseInstances, classes_of_objects, objects_of_bands


@META_ARCH_REGISTRY.register()
class WatershedSegmentor(SemanticSegmentor):
    """detectron2's ``SemanticSegmentor`` with a :class:`.SegmentationHead` that learns distances.

    Its objects do not overlap.

    Example::

        >>> import torch
        >>> from unet_sharp_det.config import setup_cfg
        >>> from unet_sharp_det.modeling import WatershedSegmentor
        >>> opts = ["MODEL.UNET.CHANNELS", "[4, 4, 4, 4, 4]", "MODEL.DEVICE", "cpu"]
        >>> cfg = setup_cfg("Base-UNet-Nuclei.yaml", opts)
        >>> cfg.MODEL.SEM_SEG_HEAD.TARGET, cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = "distance", 3
        >>> model = WatershedSegmentor(cfg).eval()
        >>> (output,) = model([{"image": torch.zeros(3, 45, 30)}])
        >>> output["instances"].pred_masks.shape[1:]
        torch.Size([45, 30])
    """

    @configurable
    def __init__(self, *, min_area: int = 0, **parts):
        """
        Args:
            min_area: objects of fewer pixels are left out.
            parts: the arguments of ``SemanticSegmentor``.

        Raises:
            ConfigError: the head learns no distances.
        """
        super().__init__(**parts)
        labels = getattr(self.sem_seg_head, "labels", None)
        if labels is None or not labels.finds_objects:
            raise ConfigError(
                "WatershedSegmentor makes objects of distances, which its head does not learn. Set "
                "MODEL.SEM_SEG_HEAD.NAME: UNetSharpHead and TARGET: distance."
            )
        self.min_area = min_area

    @classmethod
    def from_config(cls, cfg) -> dict:
        """Read the parts of ``SemanticSegmentor``, and ``MODEL.WATERSHED``."""
        return {**super().from_config(cfg), "min_area": cfg.MODEL.WATERSHED.MIN_AREA}

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
            {"instances": self.find_objects(probabilities).to_instances()}
            for probabilities in self.probabilities(batched_inputs)
        ]

    def probabilities(self, batched_inputs: list[dict]) -> list[Tensor]:
        """Return of each image (bands, H, W), see :func:`.objects_of_bands`, and after the bands
        what :func:`.classes_of_objects` takes, if there are several classes; in eval mode."""
        return [output["sem_seg"] for output in super().forward(batched_inputs)]

    def find_objects(self, probabilities: Tensor) -> SparseInstances:
        """Return the objects of an image from what :meth:`probabilities` gives of it."""
        maps, bands = probabilities.detach().float().cpu().numpy(), self.sem_seg_head.labels.bands
        objects, scores = objects_of_bands(maps[:bands], self.min_area)
        found = SparseInstances.from_label_map(objects, scores)
        if len(maps) > bands:
            found.classes[:] = classes_of_objects(objects, maps[bands:])
        return found


def pixel_probabilities(model: SemanticSegmentor, batched_inputs: list[dict]) -> list[Tensor]:
    """Return of each image the probabilities (C, H, W) of its pixels, those of
    :meth:`WatershedSegmentor.probabilities` if the model makes objects of them; in eval mode."""
    if isinstance(model, WatershedSegmentor):
        return model.probabilities(batched_inputs)
    return [output["sem_seg"] for output in model(batched_inputs)]

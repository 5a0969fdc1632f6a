"""Segmentation of volumes, trained on patches and applied in overlapping windows of their size."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone, build_sem_seg_head
from torch import Tensor, nn

from ..errors import ConfigError
from ..masks import objects_of_bands

#: Windows that go through the network together at inference.
WINDOWS = 4
#: Of an object, see :func:`.objects_of_bands`; as of objects in images by default.
_LEAST_SCORE = 0.5


@META_ARCH_REGISTRY.register()
class VolumeSegmentor(nn.Module):
    """detectron2's ``SemanticSegmentor`` for volumes, in 3D or slice by slice.

    Patches of more than one slice go through a 3D network (``build_vnet_encoder``); of one slice,
    through any 2D one. At inference windows of the patches' size overlap, and their probabilities
    are averaged by Gaussian weights (MONAI's ``sliding_window_inference``), in the CPU's memory.
    If the head learns distances, a watershed makes objects of them, as in 2D.

    Example::

        >>> import torch
        >>> from unet_sharp_det.config import setup_cfg
        >>> from unet_sharp_det.modeling import VolumeSegmentor
        >>> cfg = setup_cfg("Base-VNet.yaml", ["INPUT.VOLUME.PATCH_SIZE", "[16, 16, 16]"])
        >>> cfg.MODEL.UNET.CHANNELS = [4, 4, 4, 4, 4]
        >>> with torch.no_grad():
        ...     found = VolumeSegmentor(cfg).eval()([{"image": torch.zeros(1, 20, 16, 33)}])
        >>> tuple(found[0]["sem_seg"].shape)
        (1, 20, 16, 33)
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: nn.Module,
        sem_seg_head: nn.Module,
        patch_size: Sequence[int],
        pixel_mean: Sequence[float] = (0.0,),
        pixel_std: Sequence[float] = (1.0,),
        overlap: float = 0.5,
        min_area: int = 0,
    ):
        """
        Args:
            backbone: of 3D (its attribute ``dim`` is 3) or 2D.
            sem_seg_head: as :class:`UNetSharpHead`, of as many dimensions.
            patch_size: (D, H, W) in voxels of the patches and windows; D = 1 for 2D.
            pixel_mean, pixel_std: of each channel; volumes are normalised by them.
            overlap: of neighbouring windows, as a share of their size, 0 to 1 (excluded).
            min_area: objects of fewer voxels are left out.

        Raises:
            ConfigError: the backbone is not of the patches' dimensions, the head learns several
                classes of objects, or a value is not usable.
        """
        super().__init__()
        patch_size = tuple(patch_size)
        dim = 3 if patch_size[0] > 1 else 2
        if getattr(backbone, "dim", 2) != dim:
            raise ConfigError(
                f"INPUT.VOLUME.PATCH_SIZE {list(patch_size)} needs a {dim}D network. Set "
                "MODEL.BACKBONE.NAME: build_vnet_encoder for 3D, or a PATCH_SIZE of [1, H, W]."
            )
        if not 0 <= overlap < 1:
            raise ConfigError(f"TEST.VOLUME.OVERLAP is {overlap}, but must lie in 0 to below 1.")
        if sem_seg_head.labels.class_channels:
            raise ConfigError(
                "Objects of volumes have one class. Set MODEL.WATERSHED.NUM_CLASSES 1."
            )
        self.backbone = backbone
        self.sem_seg_head = sem_seg_head
        self.patch_size = patch_size
        self.overlap = overlap
        self.min_area = min_area
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1, 1), False)

    @classmethod
    def from_config(cls, cfg) -> dict:
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "sem_seg_head": build_sem_seg_head(cfg, backbone.output_shape()),
            "patch_size": cfg.INPUT.VOLUME.PATCH_SIZE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "overlap": cfg.TEST.VOLUME.OVERLAP,
            "min_area": cfg.MODEL.WATERSHED.MIN_AREA,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict]):
        """
        Args:
            batched_inputs: of :class:`VolumeMapper`: "image", float (C, D, H, W); in training all
                of one size, with "sem_seg", int64 (D, H, W); at inference "size", that of the
                volume before it was resampled.

        Returns:
            In training the losses by name; else a list of {"sem_seg": probabilities of that size,
            (channels, D, H, W), on the CPU}, where the head learns distances with "objects", int32
            (D, H, W).
        """
        if not self.training:
            return [self._find(self._predict(each)) for each in batched_inputs]
        patches = torch.stack([each["image"] for each in batched_inputs]).to(self.device)
        targets = torch.stack([each["sem_seg"] for each in batched_inputs]).to(self.device)
        if self.patch_size[0] == 1:
            targets = targets.flatten(0, 1)
        _, losses = self.sem_seg_head(self._features(patches), targets)
        return losses

    def _find(self, probabilities: Tensor) -> dict:
        found = {"sem_seg": probabilities}
        if self.sem_seg_head.labels.finds_objects:
            objects, _ = objects_of_bands(
                probabilities.detach().float().numpy(), self.min_area, _LEAST_SCORE
            )
            found["objects"] = torch.from_numpy(objects)
        return found

    def _features(self, patches: Tensor) -> dict[str, Tensor]:
        patches = (patches - self.pixel_mean) / self.pixel_std
        if self.patch_size[0] == 1:
            patches = patches.squeeze(2)
        return self.backbone(patches)

    def _predict(self, record: dict) -> Tensor:
        from monai.inferers import sliding_window_inference  # Takes seconds to import.

        probabilities = sliding_window_inference(
            record["image"][None],
            self.patch_size,
            WINDOWS,
            self.probabilities,
            overlap=self.overlap,
            mode="gaussian",
            padding_mode="replicate",
            sw_device=self.device,
            device="cpu",
        )
        size = tuple(record.get("size", probabilities.shape[2:]))
        if probabilities.shape[2:] != size:
            probabilities = F.interpolate(probabilities, size=size, mode="trilinear")
        return probabilities[0]

    def probabilities(self, windows: Tensor) -> Tensor:
        """Of windows (N, C, D, H, W) of ``patch_size``: (N, channels, D, H, W); in eval mode."""
        probabilities, _ = self.sem_seg_head(self._features(windows))
        return probabilities.unsqueeze(2) if self.patch_size[0] == 1 else probabilities

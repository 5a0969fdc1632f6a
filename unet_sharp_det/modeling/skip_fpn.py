"""Feature pyramids with the skip schemes of UNet++, UNet 3+ and UNet#, in the manner of FPN."""

import math
from collections.abc import Sequence
from dataclasses import replace

from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling.backbone import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from torch import Tensor, nn

from ..errors import ConfigError, look_up_option
from ..skip_schemes import build_table, resolve_scheme
from .features import feature_shapes
from .layers import build_norm, init_xavier, written_out
from .skip_grid import GridOptions, SkipGrid

# Chosen so that each neck adds little to the detector ("a small increased cost", UNet#): at 800x800
# on a ResNet-50, fpn has 36 GMAC, unetpp 50, unet3p 49, unetsharp 55.
_DEFAULT = GridOptions(node_channels=64)
_OPTIONS = {
    "fpn": GridOptions(fuse="sum", node_convs=0, interpolation="nearest"),
    "unet3p": GridOptions(),
    "pafpn": GridOptions(fuse="sum", node_convs=0, interpolation="nearest", edge_down="stride"),
    "bifpn": GridOptions(fuse="weighted", interpolation="nearest"),
}


def neck_options(
    scheme: str,
    *,
    node_channels: int | None = None,
    edge_channels: int | None = None,
    edge_order: str | None = None,
    edge_down: str | None = None,
    fuse: str | None = None,
) -> GridOptions:
    """How a neck runs a scheme: nodes of 64 channels; those of ``unet3p`` and nodes that add
    (``fpn``, ``pafpn``, ``bifpn``) are as wide as the pyramid. Residual ones are too, and their
    convolutions have 64 channels in every scheme.

    Args:
        scheme: name of a registered skip scheme.
        node_channels, ...: fields of :class:`GridOptions`. None: as the scheme has it.

    Raises:
        SchemeError: the scheme is unknown.
        ConfigError: an option has no such value.
    """
    own = _OPTIONS.get(resolve_scheme(scheme, "MODEL.FPN.SKIP_SCHEME"), _DEFAULT)
    if fuse == "residual":
        own = replace(_DEFAULT, edge_down=own.edge_down)
    elif (fuse or own.fuse) == "cat":
        own = replace(own, node_convs=max(1, own.node_convs))
    else:
        own = replace(own, node_channels=None, edge_channels=None)
    return own.changed(
        node_channels=node_channels,
        edge_channels=edge_channels,
        edge_order=edge_order,
        edge_down=edge_down,
        fuse=fuse,
    )


class SkipFPN(Backbone):
    """A feature pyramid whose top-down path is any skip scheme.

    Drop-in for :class:`detectron2.modeling.FPN`: the same arguments with the same meaning, the
    same outputs, and, for ``scheme="fpn"``, the same values and checkpoints. The encoder maps of
    the grid are FPN's laterals, ``X[i,0] = fpn_lateral(bottom-up map i)``; the pyramid is
    ``fpn_output`` of the last node of each level (UNet#, Sec. 3.4.2 and Table 2).

    Example::

        >>> import torch
        >>> from detectron2.config import get_cfg
        >>> from detectron2.layers import ShapeSpec
        >>> from detectron2.modeling import build_resnet_backbone
        >>> from unet_sharp_det import SkipFPN
        >>> cfg = get_cfg()
        >>> cfg.MODEL.RESNETS.OUT_FEATURES = ["res2", "res3", "res4"]
        >>> resnet = build_resnet_backbone(cfg, ShapeSpec(channels=3))
        >>> neck = SkipFPN(resnet, ["res2", "res3", "res4"], 256, scheme="unetpp")
        >>> [(name, tuple(x.shape)) for name, x in neck(torch.zeros(1, 3, 64, 64)).items()]
        [('p2', (1, 256, 16, 16)), ('p3', (1, 256, 8, 8)), ('p4', (1, 256, 4, 4))]
    """

    __prepare_scriptable__ = written_out

    def __init__(
        self,
        bottom_up: Backbone,
        in_features: Sequence[str],
        out_channels: int,
        norm="",
        top_block: nn.Module | None = None,
        fuse_type: str = "sum",
        square_pad: int = 0,
        *,
        scheme: str = "unetsharp",
        options: GridOptions | None = None,
    ):
        """
        Args:
            bottom_up: the network that gives the feature maps, e.g. a ResNet.
            in_features: names of at least two of its maps, from high to low resolution, whose
                strides double or, as of a dilated res5, repeat.
            out_channels: channels of every output map.
            norm, top_block, fuse_type, square_pad: as in FPN. ``fuse_type``, ``sum`` or ``avg``, is
                for nodes that add their inputs; residual ones sum.
            scheme: name of a registered skip scheme (:mod:`unet_sharp_det.skip_schemes`).
            options: how the grid is run, with the ``norm`` and ``fuse_type`` from above. None:
                :func:`neck_options` of the scheme.

        Raises:
            ConfigError: features do not exist or have other strides, or options do not fit.
            SchemeError: the scheme is unknown.
        """
        super().__init__()
        shapes = feature_shapes(bottom_up.output_shape(), in_features, "MODEL.FPN.IN_FEATURES")
        strides = [shape.stride for shape in shapes]
        look_up_option(fuse_type, ("sum", "avg"), "MODEL.FPN.FUSE_TYPE", ConfigError)

        self.scheme = resolve_scheme(scheme, "MODEL.FPN.SKIP_SCHEME")
        self.bottom_up = bottom_up
        self.in_features = tuple(in_features)
        self.top_block = top_block
        self._square_pad = square_pad
        self._size_divisibility = strides[-1]
        first = int(math.log2(strides[0]))
        self._stages = list(range(first, first + len(strides)))

        options = options or neck_options(self.scheme)
        if options.norm:
            raise ConfigError("options have a norm. Give it as SkipFPN's argument norm.")
        options = replace(options, norm=norm)
        if options.fuse in ("sum", "avg"):
            options = replace(options, fuse=fuse_type)
        if options.fuse == "residual" and fuse_type == "avg":
            raise ConfigError(
                "MODEL.FPN.FUSE_TYPE avg does not fit SKIP_FUSE residual, which begins as an FPN "
                "that sums. Set FUSE_TYPE sum, or another SKIP_FUSE."
            )
        self.grid = SkipGrid(
            build_table(self.scheme, depth=len(shapes)),
            [out_channels] * len(shapes),
            options,
            strides=strides,
        )
        for stage, shape in zip(self._stages, shapes, strict=True):
            lateral = _linear_conv(shape.channels, out_channels, 1, norm)
            self.add_module(f"fpn_lateral{stage}", lateral)
        published_unet3p = self.scheme == "unet3p" and options.fuse != "residual"
        for stage, node, width in zip(
            self._stages, self.grid.outputs, self.grid.out_channels, strict=True
        ):
            # UNet 3+'s decoder nodes, of the pyramid's width, are its maps.
            is_final = published_unet3p and node[1] > 0 and width == out_channels
            output = nn.Identity() if is_final else _linear_conv(width, out_channels, 3, norm)
            self.add_module(f"fpn_output{stage}", output)

        self._out_feature_strides = {f"p{n}": s for n, s in zip(self._stages, strides, strict=True)}
        if top_block is not None:
            self._out_feature_strides.update(self._top_strides(top_block, strides))
        self._out_features = list(self._out_feature_strides)
        self._out_feature_channels = dict.fromkeys(self._out_features, out_channels)

    def _top_strides(self, top_block: nn.Module, strides: list[int]) -> dict[str, int]:
        """The outputs of ``top_block``, each of twice the stride of the one before."""
        sources = self._out_feature_strides | dict(zip(self.in_features, strides, strict=True))
        look_up_option(top_block.in_feature, sources, "top_block.in_feature", ConfigError)
        first, stride = self._stages[-1] + 1, sources[top_block.in_feature]
        return {f"p{first + k}": stride * 2 ** (k + 1) for k in range(top_block.num_levels)}

    @property
    def size_divisibility(self) -> int:
        return self._size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        return {"square_size": self._square_pad}

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """
        Args:
            x: images (N, C, H, W).

        Returns:
            dict[str, Tensor]: "p<stage>" -> (N, out_channels, H / stride, W / stride), finest
            first, e.g. p2, ..., p6.
        """
        features = self.bottom_up(x)
        laterals = [
            getattr(self, f"fpn_lateral{stage}")(features[name])
            for stage, name in zip(self._stages, self.in_features, strict=True)
        ]
        nodes = self.grid(laterals)
        pyramid = {
            f"p{stage}": getattr(self, f"fpn_output{stage}")(nodes[level])
            for level, stage in enumerate(self._stages)
        }
        if self.top_block is not None:
            source = self.top_block.in_feature
            maps = features if source in self.in_features else pyramid
            top = self.top_block(maps[source])
            names = self._out_features[len(pyramid) :]
            pyramid.update({name: top[k] for k, name in enumerate(names)})
        return pyramid


def _linear_conv(in_channels: int, out_channels: int, kernel_size: int, norm) -> Conv2d:
    """FPN's lateral and output convolutions: no activation, Xavier initialisation."""
    options = {"bias": norm == "", "norm": build_norm(norm, out_channels)}
    conv = Conv2d(in_channels, out_channels, kernel_size, padding=kernel_size // 2, **options)
    init_xavier(conv)
    return conv


@BACKBONE_REGISTRY.register()
def build_skip_fpn_backbone(cfg, input_shape: ShapeSpec) -> SkipFPN:
    """Build a :class:`SkipFPN` on the bottom-up that ``MODEL.FPN.BOTTOM_UP`` names."""
    fpn = cfg.MODEL.FPN
    registered = [name for name, _ in BACKBONE_REGISTRY]
    look_up_option(fpn.BOTTOM_UP, registered, "MODEL.FPN.BOTTOM_UP", ConfigError)
    fuses = {"auto": None, "add": "sum", **{name: name for name in ("cat", "weighted", "residual")}}
    look_up_option(fpn.SKIP_FUSE, fuses, "MODEL.FPN.SKIP_FUSE", ConfigError)
    bottom_up = BACKBONE_REGISTRY.get(fpn.BOTTOM_UP)(cfg, input_shape)
    return SkipFPN(
        bottom_up=bottom_up,
        in_features=fpn.IN_FEATURES,
        out_channels=fpn.OUT_CHANNELS,
        norm=fpn.NORM,
        top_block=_build_top_block(fpn, bottom_up),
        fuse_type=fpn.FUSE_TYPE,
        scheme=fpn.SKIP_SCHEME,
        options=neck_options(
            fpn.SKIP_SCHEME,
            node_channels=fpn.NODE_CHANNELS or None,
            edge_channels=fpn.EDGE_CHANNELS or None,
            edge_order=fpn.EDGE_ORDER,
            edge_down=None if fpn.EDGE_DOWN == "auto" else fpn.EDGE_DOWN,
            fuse=fuses[fpn.SKIP_FUSE],
        ),
    )


def _build_top_block(fpn, bottom_up: Backbone) -> nn.Module | None:
    look_up_option(fpn.TOP_BLOCK, ("maxpool", "p6p7", "none"), "MODEL.FPN.TOP_BLOCK", ConfigError)
    if fpn.TOP_BLOCK == "none":
        return None
    shapes = feature_shapes(bottom_up.output_shape(), fpn.IN_FEATURES, "MODEL.FPN.IN_FEATURES")
    if fpn.TOP_BLOCK == "p6p7":
        return LastLevelP6P7(shapes[-1].channels, fpn.OUT_CHANNELS, fpn.IN_FEATURES[-1])
    top_block = LastLevelMaxPool()
    top_block.in_feature = f"p{int(math.log2(shapes[0].stride)) + len(shapes) - 1}"
    return top_block

"""Necks and detectors against FPN: time, memory, parameters, multiply-adds."""

from collections.abc import Callable

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.analysis import FlopCountAnalysis
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from benchmarks.measure import peak_memory, table, take_turns
from unet_sharp_det.skip_schemes import scheme_names

HEADERS = [
    *("scheme", "M params", "GMAC", "forward s", "x fpn", "forward+backward s", "x fpn"),
    *("peak MiB", "x fpn"),
]


def benchmark_necks(cfg: CfgNode, size: int, batch: int, repeats: int) -> str:
    """Each scheme's neck alone, on random maps of the config's bottom-up.

    Args:
        cfg: of any detector with a skip FPN.
        size: side of the square images that the maps belong to, in pixels.
        batch: number of images.
        repeats: counted runs; medians are reported.

    Returns:
        str: a Markdown table.
    """
    necks = {scheme: _build(cfg, scheme).backbone for scheme in scheme_names()}
    first = next(iter(necks.values()))
    device = next(first.parameters()).device
    maps = {
        name: torch.randn(batch, shape.channels, size // shape.stride, size // shape.stride)
        for name, shape in first.bottom_up.output_shape().items()
    }
    maps = {name: value.to(device) for name, value in maps.items()}
    params, macs = {}, {}
    for scheme, neck in necks.items():
        neck.bottom_up = nn.Identity()
        params[scheme] = sum(p.numel() for p in neck.parameters())
        macs[scheme] = _macs(neck, {name: value[:1] for name, value in maps.items()})

    def forward(neck):
        with torch.no_grad():
            neck(maps)

    def train(neck):
        neck.zero_grad()
        sum(x.square().mean() for x in neck(maps).values()).backward()

    title = f"Necks on {cfg.MODEL.FPN.BOTTOM_UP}, {batch} x {size} x {size}, GMAC per image"
    return _compare(title, necks, params, macs, forward, train, repeats)


def benchmark_detectors(cfg: CfgNode, size: int, batch: int, repeats: int) -> str:
    """The whole detector with each scheme: inference and training step (without optimizer).

    Args and Returns: as :func:`benchmark_necks`.
    """
    models = {scheme: _build(cfg, scheme) for scheme in scheme_names()}
    inputs = [synthetic_image(size, seed, cfg.MODEL.MASK_ON) for seed in range(batch)]
    params, macs = {}, {}
    for scheme, model in models.items():
        params[scheme] = sum(p.numel() for p in model.parameters())
        macs[scheme] = _macs(model.eval(), inputs[:1])

    def forward(model):
        with torch.no_grad():
            model.eval()(inputs)

    def train(model):
        model.zero_grad()
        with EventStorage():
            sum(model.train()(inputs).values()).backward()

    title = f"{cfg.MODEL.META_ARCHITECTURE}, {batch} x {size} x {size}, GMAC per image, inference"
    return _compare(title, models, params, macs, forward, train, repeats)


def _compare(title: str, models: dict, params: dict, macs: dict, forward, train, repeats) -> str:
    forward_s = take_turns({n: _bind(forward, m) for n, m in models.items()}, repeats)
    train_s = take_turns({n: _bind(train, m) for n, m in models.items()}, repeats)
    peak = {}
    for name, model in models.items():
        model.zero_grad()
        peak[name] = peak_memory(_bind(train, model))
        model.zero_grad()
    rows = []
    for name in models:
        row = [name, params[name] / 1e6, macs[name] / 1e9]
        for figures in (forward_s, train_s, peak):
            row += [figures[name], figures[name] / figures["fpn"]]
        rows.append(row)
    return table(title, HEADERS, rows)


def _build(cfg: CfgNode, scheme: str) -> nn.Module:
    cfg = cfg.clone()
    cfg.MODEL.FPN.SKIP_SCHEME = scheme
    torch.manual_seed(0)
    return build_model(cfg).train()


def _bind(function: Callable, argument) -> Callable[[], object]:
    return lambda: function(argument)


def _macs(model: nn.Module, inputs) -> float:
    analysis = FlopCountAnalysis(model, inputs if isinstance(inputs, list) else (inputs,))
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return analysis.total()


def synthetic_image(size: int, seed: int, with_masks: bool, nuclei: int = 150) -> dict:
    """A random image with square nuclei of 24 to 64 pixels, as a detector takes it.

    There are more nuclei than a head samples (128), so that every model has as many to learn from,
    whatever it proposes.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(low: int, high: int) -> Tensor:
        return torch.randint(low, high, (nuclei,), generator=generator)

    side = draw(24, 64)
    left, top = draw(0, size - 64), draw(0, size - 64)
    instances = Instances((size, size))
    instances.gt_boxes = Boxes(torch.stack([left, top, left + side, top + side], 1).float())
    instances.gt_classes = torch.zeros(nuclei, dtype=torch.int64)
    if with_masks:
        masks = torch.zeros(nuclei, size, size, dtype=torch.bool)
        for mask, x, y, s in zip(masks, left, top, side, strict=True):
            mask[y : y + s, x : x + s] = True
        instances.gt_masks = BitMasks(masks)
    image = torch.randint(0, 256, (3, size, size), generator=generator, dtype=torch.uint8)
    return {"image": image, "instances": instances, "height": size, "width": size}

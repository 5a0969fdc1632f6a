"""Necks and detectors against FPN: time, memory, parameters, multiply-adds."""

from collections.abc import Iterable
from functools import partial

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from benchmarks.measure import autocast, multiply_adds, peak_memory, table, take_turns
from benchmarks.options import R_50, add_config, add_images, new_parser, read_config
from unet_sharp_det.skip_schemes import resolve_scheme, scheme_names

HEADERS = [
    *("scheme", "M params", "GMAC", "forward s", "x fpn", "forward+backward s", "x fpn"),
    *("peak MiB", "x fpn"),
]


def main(argv) -> None:
    parser = new_parser(argv[0], __doc__)
    add_images(parser, size=512, batch=2)
    parser.add_argument("--bf16", action="store_true", help="under bfloat16 autocast")
    add = parser.add_argument
    add("--schemes", nargs="+", default=scheme_names(), help="that are compared with fpn")
    add_config(parser, default=R_50)
    args = parser.parse_args(argv[1:])
    compare = compare_necks if argv[0] == "necks" else compare_detectors
    schemes = dict.fromkeys(["fpn", *map(resolve_scheme, args.schemes)])
    size = args.size, args.batch
    print(compare(read_config(args), schemes, *size, args.repeats, args.bf16))


def compare_necks(
    cfg: CfgNode, schemes: Iterable[str], size: int, batch: int, repeats: int, bf16: bool = False
) -> str:
    """Each scheme's neck alone, on random maps of the config's bottom-up.

    Args:
        cfg: of any detector with a skip FPN.
        schemes: their names, fpn among them.
        size: side of the square images that the maps belong to, in pixels.
        batch: number of images.
        repeats: counted runs; medians are reported.
        bf16: run under bfloat16 autocast.

    Returns:
        str: a Markdown table.
    """
    necks = {scheme: _build(cfg, scheme).backbone for scheme in schemes}
    first = next(iter(necks.values()))
    device = next(first.parameters()).device
    maps = {
        name: torch.randn(
            batch, shape.channels, size // shape.stride, size // shape.stride, device=device
        )
        for name, shape in first.bottom_up.output_shape().items()
    }
    for neck in necks.values():
        neck.bottom_up = nn.Identity()
    of_one = {name: x[:1] for name, x in maps.items()}
    macs = {name: multiply_adds(partial(neck, of_one)) for name, neck in necks.items()}

    def forward(neck):
        with torch.no_grad(), autocast(bf16):
            neck(maps)

    def train(neck):
        neck.zero_grad()
        with autocast(bf16):
            found = neck(maps)
        sum(x.float().square().mean() for x in found.values()).backward()

    title = f"Necks on {cfg.MODEL.FPN.BOTTOM_UP}, {batch} x {size} x {size}, GMAC per image"
    return _compare(title, necks, macs, forward, train, repeats, bf16)


def compare_detectors(
    cfg: CfgNode, schemes: Iterable[str], size: int, batch: int, repeats: int, bf16: bool = False
) -> str:
    """The whole detector with each scheme: inference and training step (without optimizer).

    Args and Returns: as :func:`compare_necks`.
    """
    models = {scheme: _build(cfg, scheme) for scheme in schemes}
    inputs = [synthetic_image(size, seed, cfg.MODEL.MASK_ON) for seed in range(batch)]
    macs = {n: multiply_adds(partial(model.eval(), inputs[:1])) for n, model in models.items()}

    def forward(model):
        with torch.no_grad(), autocast(bf16):
            model.eval()(inputs)

    def train(model):
        model.zero_grad()
        with EventStorage(), autocast(bf16):
            losses = model.train()(inputs)
        sum(losses.values()).backward()

    title = f"{cfg.MODEL.META_ARCHITECTURE}, {batch} x {size} x {size}, GMAC per image, inference"
    return _compare(title, models, macs, forward, train, repeats, bf16)


def _compare(title: str, models: dict, macs: dict, forward, train, repeats, bf16) -> str:
    forward_s = take_turns({n: partial(forward, m) for n, m in models.items()}, repeats)
    train_s = take_turns({n: partial(train, m) for n, m in models.items()}, repeats)
    peak, rows = {}, []
    for name, model in models.items():
        model.zero_grad()
        peak[name] = peak_memory(partial(train, model))
        model.zero_grad()
    for name, model in models.items():
        row = [name, sum(p.numel() for p in model.parameters()) / 1e6, macs[name] / 1e9]
        for figures in (forward_s, train_s, peak):
            row += [figures[name], figures[name] / figures["fpn"]]
        rows.append(row)
    return table(title + ", bf16" * bf16, HEADERS, rows)


def _build(cfg: CfgNode, scheme: str) -> nn.Module:
    cfg = cfg.clone()
    cfg.MODEL.FPN.SKIP_SCHEME = scheme
    torch.manual_seed(0)
    return build_model(cfg).train()


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

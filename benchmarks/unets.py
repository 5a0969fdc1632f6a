"""UNet# against its literal form: speed and memory; and the counts of all the papers' networks."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.literal_unetsharp import LiteralUNetSharp
from benchmarks.measure import (
    autocast,
    in_fresh_process,
    multiply_adds,
    peak_memory,
    table,
    take_turns,
)
from benchmarks.options import new_parser, positive
from unet_sharp_det.modeling import SegNetr, SkipUNet
from unet_sharp_det.modeling.segmentation_head import EncoderDecoder
from unet_sharp_det.modeling.unet_encoder import UNET_CHANNELS

LITERAL = "literal"
UP_CONV = "up_conv"
# Options of SkipUNet by the variant's name. The literal network is built of a SkipUNet's modules.
VARIANTS = {
    LITERAL: {},
    UP_CONV: {},
    "up_conv, checkpoint": {"checkpoint": True},
    "conv_up": {"edge_order": "conv_up"},
    "conv_up, checkpoint": {"edge_order": "conv_up", "checkpoint": True},
    "raw": {"edge": "raw"},
}
_HEADERS = [
    *("UNet#", "forward s", "times faster", "training step s", "times faster"),
    *("peak MiB of a step", "x literal"),
]

WIDE = (35, 70, 140, 280, 560)
WIDE_3D = (18, 36, 72, 144, 288)
# C, and as published: millions of parameters, and GMAC at 224 x 224.
SEGNETRS = {"SegNetr": (64, 12.26, 10.18), "SegNetr-S": (32, 3.60, 2.71)}


class Network(NamedTuple):
    """A network of the paper: its count of parameters there in millions, and how it is built."""

    name: str
    scheme: str
    paper: float | None
    options: dict
    remark: str = ""


def main(argv) -> None:
    parser = new_parser(argv[0], __doc__, repeats=3)
    if argv[0] != "counts":
        add = parser.add_argument
        add("--sizes", type=positive, nargs="+", default=[256, 512], help="sides of the images")
        add("--batch", type=positive, default=1, help="number of images")
        add("--bf16", action="store_true", help="under bfloat16 autocast")
    args = parser.parse_args(argv[1:])
    if argv[0] == "counts":
        print(count_networks())
        return
    for size in args.sizes:
        print(compare_unets(size, args.batch, args.repeats, args.bf16), flush=True)


def compare_unets(size: int, batch: int, repeats: int, bf16: bool = False, **options) -> str:
    """UNet# as the package runs it against Eq. 1 node by node; all with the same weights.

    Memory is measured in a fresh process for each variant.

    Args:
        size: side of the square images in pixels.
        batch: number of images.
        repeats: counted runs; medians are reported.
        bf16: run under bfloat16 autocast.
        options: of :class:`SkipUNet`, for all variants.

    Returns:
        str: a Markdown table, and how far the values are from those of the literal network.
    """
    nets = {variant: build_variant(variant, options) for variant in VARIANTS}
    images = _random_images(size, batch)
    difference = largest_difference(nets[UP_CONV], nets[LITERAL], images)
    forwards = {name: _forward(net, images, bf16) for name, net in nets.items()}
    forward_s = take_turns(forwards, repeats)
    trainings = {name: _training(net, images, bf16) for name, net in nets.items()}
    train_s = take_turns(trainings, repeats)
    del nets, forwards, trainings
    peak = {
        name: in_fresh_process(training_memory, name, size, batch, options, bf16)
        for name in VARIANTS
    }
    rows = []
    for name in VARIANTS:
        row = [name]
        for seconds in (forward_s, train_s):
            row += [seconds[name], seconds[LITERAL] / seconds[name]]
        rows.append([*row, peak[name], peak[name] / peak[LITERAL]])
    title = f"UNet#, {batch} x {size} x {size}, steps without optimizer; literal: as Eq. 1 reads"
    return f"{table(title + ', bf16' * bf16, _HEADERS, rows)}\n{difference}\n"


def count_networks(size: int = 256) -> str:
    """Parameters and multiply-adds of networks beside those that their papers print.

    Args:
        size: side of the square image that multiply-adds are counted for, in pixels.

    Returns:
        str: a Markdown table.
    """
    rows = []
    with torch.device("meta"):
        for network in (*networks_2d(), *NETWORKS_3D):
            net = SkipUNet(network.scheme, **network.options).eval()
            macs = _gmac(net, size) if network.options.get("dim", 2) == 2 else None
            rows.append([*_count_row(network, net), macs, network.remark])
        literal = LiteralUNetSharp(SkipUNet().eval())
        network = Network("UNet# L4, literal", "unetsharp", None, {}, "Eq. 1 node by node")
        rows.append([*_count_row(network, literal), _gmac(literal, size), network.remark])
        for name, (channels, paper, gmac) in SEGNETRS.items():
            net = SegNetr(channels=channels).eval()
            remark = f"{_gmac(net, 224):.2f} GMAC at 224 x 224, paper: {gmac}"
            network = Network(name, "SegNetr", paper, {"channels": channels})
            rows.append([*_count_row(network, net), _gmac(net, size), remark])
    headers = ["network", "built as", "paper (M)", "here (M)", f"GMAC at {size} x {size}", "remark"]
    title = "Parameters and multiply-adds (convolutions and matrix products that run)"
    formats = ("", "", ".2f", ".4f", ".2f", "")
    return table(title, headers, rows, floatfmt=formats, missingval="-")


def networks_2d() -> Iterator[Network]:
    """The paper's networks for images (UNet#, Table 1 and Fig. 7), and two more of the package."""
    raw = {"edge": "raw"}
    yield Network("UNet", "unet", 7.85, {})
    yield Network("WUNet", "unet", 9.39, {"channels": WIDE})
    yield Network("UNet2+", "unetpp", 9.16, {})
    yield Network("UNet3+", "unet3p", 9.79, raw)
    yield Network("UNet 3+ as published", "unet3p", None, {}, "64 a branch, 320 fused")
    remarks = {("raw", 4): "the paper's is f", ("f", 3): "the paper's is raw"}
    for edge in ("raw", "f"):
        for level, paper in enumerate((0.10, 0.56, 2.53, 9.71), start=1):
            options = {"edge": edge, "channels": UNET_CHANNELS[: level + 1]}
            remark = remarks.get((edge, level), "")
            yield Network(f"UNet# L{level}, {edge}", "unetsharp", paper, options, remark)
    options = {"edge_order": "conv_up"}
    yield Network("UNet# L4, f, conv_up", "unetsharp", None, options, "another function")


NETWORKS_3D = (
    Network("V-Net", "unet", 26.39, {"dim": 3, "edge": "raw"}),
    Network("WV-Net", "unet", 33.40, {"dim": 3, "edge": "raw", "channels": WIDE_3D}),
    Network("V-Net2+", "unetpp", 27.37, {"dim": 3, "edge": "raw"}),
    Network("V-Net3+", "unet3p", 27.84, {"dim": 3, "edge": "raw"}),
    Network("V-Net#", "unetsharp", 28.37, {"dim": 3, "edge": "raw"}, "no reading gives it"),
)


def build_variant(variant: str, options: dict) -> nn.Module:
    """The network of :data:`VARIANTS`, on the GPU if there is one.

    All have the weights of the same seed, as far as their shapes are equal.

    Args:
        variant: its name.
        options: more options of :class:`SkipUNet`.
    """
    torch.manual_seed(0)
    weights = SkipUNet("unetsharp", **options).state_dict()
    net = SkipUNet("unetsharp", **VARIANTS[variant], **options)
    own = net.state_dict()
    shared = {n: w for n, w in weights.items() if n in own and own[n].shape == w.shape}
    net.load_state_dict(shared, strict=False)
    if variant == LITERAL:
        net = LiteralUNetSharp(net)
    return net.to(_device())


def logits(net: nn.Module, images: Tensor) -> Tensor:
    """The logits (N, 1, H, W) of X[0,4], of five levels, or of the literal network."""
    if not isinstance(net, EncoderDecoder):
        return net(images)
    return net.sem_seg_head.decoder(list(net.backbone(images).values()))[(0, 4)].logits


def largest_difference(net: nn.Module, literal: nn.Module, images: Tensor) -> str:
    """One line on how far the logits of two networks are apart in eval mode."""
    with torch.no_grad():
        expected = logits(literal.eval(), images)
        difference = (logits(net.eval(), images) - expected).abs().max().item()
    return (
        f"Largest absolute difference of {UP_CONV}'s logits to the literal ones: {difference:.2e} "
        f"(of logits up to {expected.abs().max().item():.2e})."
    )


def training_memory(variant: str, size: int, batch: int, options: dict, bf16: bool) -> float:
    """MiB that a training step of a variant needs at its peak, after one step to warm up."""
    net = build_variant(variant, options)
    step = _training(net, _random_images(size, batch), bf16)
    step()
    net.zero_grad()
    return peak_memory(step)


def _forward(net: nn.Module, images: Tensor, bf16: bool):
    def step():
        with torch.no_grad(), autocast(bf16):
            logits(net.eval(), images)

    return step


def _training(net: nn.Module, images: Tensor, bf16: bool):
    def step():
        net.train().zero_grad()
        with autocast(bf16):
            found = logits(net, images)
        found.float().square().mean().backward()

    return step


def _random_images(size: int, batch: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(batch, 3, size, size, generator=generator).to(_device())


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _gmac(net: nn.Module, size: int) -> float:
    images = torch.zeros(1, 3, size, size, device="meta")
    return multiply_adds(lambda: net(images)) / 1e9


def _count_row(network: Network, net: nn.Module) -> Sequence:
    named = [f"{name}={value}" for name, value in network.options.items()]
    built = ", ".join([network.scheme, *named])
    return network.name, built, network.paper, sum(p.numel() for p in net.parameters()) / 1e6

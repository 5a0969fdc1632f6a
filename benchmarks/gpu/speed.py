"""Speed and memory on this device, each figure written at once: ``speed.py OUT.json [--tiny]``.

Necks, detectors and U-Nets run under bfloat16 autocast, on random data. Every figure is a median;
memory is the peak of one step by torch's allocator, above what was held before (on a CPU none). A
figure that fails is noted, and the exit status is 1.
"""

import argparse
import itertools
import statistics
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import nn

from benchmarks.measure import peak_memory, synchronize
from benchmarks.models import synthetic_image
from benchmarks.unets import VARIANTS, build_variant, logits
from unet_sharp_det import model_zoo
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.files import write_json
from unet_sharp_det.images.decoding import read_image
from unet_sharp_det.prediction import PredictionOptions, Predictor
from unet_sharp_det.runtime import fall_back_to_cpu, has_bfloat16
from unet_sharp_det.skip_schemes import scheme_names

ROOT = Path(__file__).parents[2]
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True)
class Sizes:
    """What is measured: sides in pixels, batches, and seconds that a figure may take."""

    bottom_up: str = "R-50"
    config: str = "DSB2018-InstanceSegmentation/mask_rcnn_R_50_unetsharp.yaml"
    side: int = 800
    batch: int = 8
    unet_side: int = 512
    unet_batch: int = 4
    predicted_sides: tuple[int, ...] = (256, 1024)
    predicted_batches: tuple[int, ...] = (1, 8, 32)
    predicted_pixels: int = 128 * 256**2
    unet: tuple[tuple[str, object], ...] = ()
    seconds: float = 1.5


TINY = Sizes(
    bottom_up="Lite0",
    config="quick_schedules/mask_rcnn_lite0_unetsharp_instant_test.yaml",
    side=128,
    batch=1,
    unet_side=32,
    unet_batch=1,
    predicted_sides=(64,),
    predicted_batches=(1,),
    predicted_pixels=64**2,
    unet=(("channels", (4, 4, 4, 4, 4)), ("edge_channels", 4)),
    seconds=0.0,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()
    sizes, figures = TINY if args.tiny else Sizes(), []
    for measure in (necks, detectors, unets, predictions):
        for name, figure in measure(sizes):
            try:
                found = figure()
            except Exception as error:  # the other figures are wanted all the same
                traceback.print_exc()
                found = {"error": f"{type(error).__name__}: {error}"[:500]}
            title = measure.__doc__.format(**vars(sizes))
            figures.append({"of": title, "name": name, **found})
            write_json(args.output, figures, indent=1)
            print(figures[-1], flush=True)
    return int(any("error" in figure for figure in figures))


Figures = Iterator[tuple[str, Callable[[], dict]]]


def necks(sizes: Sizes) -> Figures:
    """Necks alone, on maps of {bottom_up} at {side} x {side}, batch {batch}, bf16"""
    for scheme in scheme_names():

        def figure(scheme=scheme):
            neck = detector(sizes, scheme).backbone
            maps = {
                name: torch.randn(
                    sizes.batch,
                    shape.channels,
                    sizes.side // shape.stride,
                    sizes.side // shape.stride,
                    device=DEVICE,
                )
                for name, shape in neck.bottom_up.output_shape().items()
            }
            neck.bottom_up = nn.Identity()
            return network_figures(neck, lambda: list(neck(maps).values()), sizes)

        yield scheme, figure


def detectors(sizes: Sizes) -> Figures:
    """Mask R-CNN {bottom_up} at {side} x {side}, batch {batch}, bf16"""
    for scheme in scheme_names():

        def figure(scheme=scheme):
            model = detector(sizes, scheme)
            inputs = [synthetic_image(sizes.side, seed, True) for seed in range(sizes.batch)]

            def run():
                if not model.training:
                    return model.inference(inputs, do_postprocess=False)
                with EventStorage():
                    return list(model(inputs).values())

            return network_figures(model, run, sizes)

        yield scheme, figure


def unets(sizes: Sizes) -> Figures:
    """UNet# at {unet_side} x {unet_side}, batch {unet_batch}, bf16; literal: as Eq. 1 reads"""
    options = dict(sizes.unet)
    images = torch.randn(sizes.unet_batch, 3, sizes.unet_side, sizes.unet_side, device=DEVICE)
    for variant in VARIANTS:

        def figure(variant=variant):
            net = build_variant(variant, options)
            return network_figures(net, lambda: [logits(net, images)], sizes)

        yield variant, figure


def predictions(sizes: Sizes) -> Figures:
    """Prediction with the model `nuclei`, from images in memory to objects"""
    cases = (sizes.predicted_sides, ("fp32", "bf16"), sizes.predicted_batches)
    for side, precision, batch in itertools.product(*cases):
        if precision == "bf16" and not has_bfloat16(torch.device(DEVICE)):
            continue

        def figure(side=side, precision=precision, batch=batch):
            options = PredictionOptions(batch_size=batch, precision=precision)
            path = model_zoo.get_checkpoint_file("nuclei")
            predict = Predictor.from_checkpoint(path, device=DEVICE, options=options).predict_many
            images = nuclei(side, max(batch, sizes.predicted_pixels // side**2))
            taken = seconds_of(lambda: predict(images), sizes.seconds)
            return {
                "images_per_second": len(images) / taken,
                "objects": len(predict(images[:1])[0]),
            }

        yield f"{side} x {side}, {precision}, batch {batch}", figure


def detector(sizes: Sizes, scheme: str) -> nn.Module:
    cfg = setup_cfg(str(ROOT / "configs" / sizes.config), ["MODEL.FPN.SKIP_SCHEME", scheme])
    fall_back_to_cpu(cfg)
    torch.manual_seed(0)
    return build_model(cfg)


def nuclei(side: int, count: int) -> list[np.ndarray]:
    """Images of the sample, as mosaics where they are to be larger."""
    paths = sorted((ROOT / "datasets" / "sample").glob("stage1_train/*/images/*.png"))
    images = [read_image(str(path), "RGB") for path in paths]
    images = [image for image in images if image.shape[:2] == (256, 256)]
    tiles = max(1, side // 256)

    def mosaic(number: int) -> np.ndarray:
        one = itertools.islice(itertools.cycle(images), number, number + tiles)
        return np.tile(np.concatenate(list(one), axis=1), (tiles, 1, 1))[:side, :side]

    return [np.ascontiguousarray(mosaic(number)) for number in range(count)]


def network_figures(network: nn.Module, run: Callable[[], object], sizes: Sizes) -> dict:
    """Seconds of a forward pass and of a training step without optimizer, and the step's peak."""

    def forward():
        with torch.inference_mode(), torch.autocast(DEVICE, torch.bfloat16):
            run()

    def train():
        network.zero_grad()
        with torch.autocast(DEVICE, torch.bfloat16):
            values = run()
        sum(value.float().square().mean() for value in values).backward()

    network.eval()
    figures = {"forward_s": seconds_of(forward, sizes.seconds)}
    network.train()
    figures["step_s"] = seconds_of(train, sizes.seconds)
    network.zero_grad()
    figures["peak_mib"] = peak_memory(train) if DEVICE == "cuda" else None
    return figures


def seconds_of(step: Callable[[], object], budget_s: float) -> float:
    """The median of as many runs as fill a time, after one that is not counted."""
    step()
    taken = []
    while not taken or sum(taken) < budget_s:
        synchronize()
        start = time.perf_counter()
        step()
        synchronize()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


if __name__ == "__main__":
    sys.exit(main())

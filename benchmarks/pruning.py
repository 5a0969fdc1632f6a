"""Size, speed and quality of a trained network pruned to each of its levels (UNet#, Fig. 7)."""

import math
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from detectron2.config import CfgNode
from detectron2.evaluation import inference_on_dataset
from torch import Tensor, nn

from benchmarks.measure import machine, multiply_adds, table, take_turns
from benchmarks.options import add_config, add_images, new_parser, read_config
from unet_sharp_det.checkpoints.trained_model import load_trained_model
from unet_sharp_det.cli import add_trust_argument
from unet_sharp_det.data.catalog import check_registered
from unet_sharp_det.errors import ConfigError, UserError
from unet_sharp_det.evaluation.build import build_nuclei_evaluators
from unet_sharp_det.files import write_json
from unet_sharp_det.modeling.pruning import cut_to_level, prune_config
from unet_sharp_det.report.pruning import pruning_plot
from unet_sharp_det.skip_schemes import build_table
from unet_sharp_det.training import NucleiTrainer

RESULT_FILE = "pruning.json"
#: By MODEL.META_ARCHITECTURE the task and the name of the measure that tells a level's quality.
MEASURES = {
    "SemanticSegmentor": ("sem_seg", "IoU_image_mean"),
    "WatershedSegmentor": ("instances", "DSB_score"),
}


def main(argv) -> None:
    parser = new_parser(argv[0], __doc__)
    add_images(parser, size=256, batch=1)
    parser.add_argument("--weights", required=True, help="checkpoint of the training")
    parser.add_argument("--dataset", default="dsb2018_val", help="registered name, for the quality")
    parser.add_argument("--output", help="folder for pruning.json and pruning.png")
    add_trust_argument(parser)
    add_config(parser, required=True, help="of the training")
    args = parser.parse_args(argv[1:])
    names = ("weights", "dataset", "size", "batch", "repeats", "output", "trust_pickle")
    print(compare_levels(read_config(args), **{name: getattr(args, name) for name in names}))


def compare_levels(
    cfg: CfgNode,
    weights: str,
    dataset: str,
    *,
    size: int,
    batch: int,
    repeats: int,
    output: str | None = None,
    trust_pickle: bool = False,
) -> str:
    """Cut a trained network to L_1 .. L_D in fast mode and measure each.

    Speed is that of encoder and decoder alone, on random images; quality is :data:`MEASURES`' of
    what is found in a data set's.

    Args:
        cfg: of the training.
        weights: its checkpoint.
        dataset: name of the registered data set that quality is taken on.
        size: side of the square images for multiply-adds and speed, in pixels.
        batch: number of images for speed.
        repeats: counted runs; medians are reported.
        output: folder for ``pruning.json``, which ``unet-sharp-det report --pruning`` takes, and
            its figure as PNG and SVG. None: write nothing.
        trust_pickle: of :func:`load_trained_model`.

    Returns:
        str: a Markdown table, and what was left out.

    Raises:
        UserError: config, checkpoint, data set or output are unusable, or the scheme cannot be
            pruned.
    """
    _check(cfg, dataset, output)
    configs, left_out = prunable_levels(cfg)
    cfg = cfg.clone()
    cfg.MODEL.WEIGHTS = str(weights)
    whole = load_trained_model(cfg, trust_pickle).model
    networks = {level: cut_to_level(whole, cfg, level)[0] for level in configs}
    loader = NucleiTrainer.build_test_loader(cfg, dataset)
    levels = _measure(networks, size, batch, repeats)
    for level in levels:
        level["quality"] = _quality(cfg, networks[level["level"]], loader, dataset)
    _, measure = MEASURES[cfg.MODEL.META_ARCHITECTURE]
    title = (
        f"{cfg.MODEL.SEM_SEG_HEAD.SKIP_SCHEME} pruned to L_k, {measure} on {dataset}, "
        f"speed on {batch} x {size} x {size}"
    )
    if output is not None:
        facts = {"title": title, "machine": machine(), "measure": measure}
        _write(Path(output), {**facts, "levels": levels})
    return "\n".join([_levels_table(title, measure, levels), *left_out])


def prunable_levels(cfg: CfgNode) -> tuple[dict[int, CfgNode], list[str]]:
    """The configs of L_k by k, and a line on each level that the network was not trained for.

    Raises:
        ConfigError: the scheme has no levels, or no level is left.
    """
    head = cfg.MODEL.SEM_SEG_HEAD
    depth = len(head.IN_FEATURES)
    configs, errors = {}, {}
    for level in range(1, depth):
        try:
            configs[level] = prune_config(cfg, level, "fast")
        except ConfigError as error:
            errors[level] = error
    table_of_nodes = build_table(head.SKIP_SCHEME, depth)
    has_levels = any((0, level) in table_of_nodes for level in range(1, max(2, depth - 1)))
    if errors and not (configs and has_levels):
        raise next(iter(errors.values()))
    return configs, [f"Left out: {error}" for error in errors.values()]


def _check(cfg: CfgNode, dataset: str, output: str | None) -> None:
    model = cfg.MODEL
    if model.META_ARCHITECTURE not in MEASURES or model.SEM_SEG_HEAD.NAME != "UNetSharpHead":
        raise ConfigError(
            f"pruning needs a {' or '.join(MEASURES)} with UNetSharpHead, not a "
            f"{model.META_ARCHITECTURE} with {model.SEM_SEG_HEAD.NAME}. Give a config of "
            "configs/DSB2018-SemanticSegmentation, or compact/watershed_lite0_unetsharp.yaml."
        )
    check_registered([dataset], "--dataset")
    if output is not None and Path(output).exists() and not Path(output).is_dir():
        raise UserError(f"--output {output}: is a file, but a folder is needed.")


def _measure(networks: dict[int, nn.Module], size: int, batch: int, repeats: int) -> list[dict]:
    device = next(iter(networks.values())).device
    images = torch.randn(batch, 3, size, size, device=device)
    steps = {level: partial(_infer, network, images) for level, network in networks.items()}
    seconds = take_turns(steps, repeats)
    return [
        {
            "level": level,
            "params": sum(p.numel() for p in network.parameters()),
            "gmac": multiply_adds(partial(_infer, network, images[:1])) / 1e9,
            "images_per_s": batch / seconds[level],
        }
        for level, network in networks.items()
    ]


def _quality(cfg: CfgNode, network: nn.Module, loader, dataset: str) -> float | None:
    task, measure = MEASURES[cfg.MODEL.META_ARCHITECTURE]
    with TemporaryDirectory() as folder:
        evaluator = build_nuclei_evaluators(cfg, dataset, folder)
        value = inference_on_dataset(network, loader, evaluator)[task][measure]
    return value if math.isfinite(value) else None


def _infer(network: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return network.sem_seg_head(network.backbone(images))[0]


def _levels_table(title: str, measure: str, levels: list[dict]) -> str:
    deepest = levels[-1]
    rows = [
        [
            f"L_{level['level']}",
            level["params"] / 1e6,
            level["gmac"],
            level["images_per_s"],
            level["images_per_s"] / deepest["images_per_s"],
            level["quality"],
        ]
        for level in levels
    ]
    faster = f"times faster than L_{deepest['level']}"
    headers = ["", "M params", "GMAC per image", "images/s", faster, f"{measure} (%)"]
    formats = ("", ".4f", ".3f", ".3f", ".3f", ".3f")
    return table(title, headers, rows, floatfmt=formats, missingval="n/a")


def _write(folder: Path, content: dict) -> None:
    write_json(folder / RESULT_FILE, content, indent=2)
    pruning_plot(folder / RESULT_FILE).save(folder)

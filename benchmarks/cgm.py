"""What CGM does on images without nuclei: two trainings that differ in it alone, on tiles.

The sample's images all hold nuclei, so the empty images are tiles of real background.
"""

import argparse
import csv
import dataclasses
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from detectron2.config import CfgNode
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger
from tabulate import tabulate
from torch import Tensor, nn

from benchmarks.measure import machine
from benchmarks.tiles import Tiling, make_tiles
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.data import register_coco_nuclei
from unet_sharp_det.data.catalog import DSB2018_CATEGORIES
from unet_sharp_det.errors import ConfigError, DatasetError
from unet_sharp_det.evaluation.record import SEMANTIC_IMAGES_FILE
from unet_sharp_det.files import write_json
from unet_sharp_det.runtime import fall_back_to_cpu
from unet_sharp_det.training import NucleiTrainer

CONFIG = "configs/DSB2018-SemanticSegmentation/compact/unetsharp.yaml"
WITHOUT, WITH, GATE_OFF = "without CGM", "with CGM", "with CGM, gate off"
RESULTS_FILE = "cgm.json"

TILE = 64
# Training tiles overlap for variety, and a quarter of them is empty (more than half would be, most
# of them from the few large images). Test tiles are all there are, once.
TILINGS = {
    "train": {"size": TILE, "stride": TILE // 2, "empty_share": 0.25},
    "val": {"size": TILE},
}

# Beside the config file's: what makes a CPU train in minutes (small images and widths, the cheaper
# order of a convolved edge, no changes of colour), and no evaluation but the last one. CGM's loss
# at its full weight starts with 4 to 8 times the gradient in encoder and grid that Lovasz has,
# which leads among the other terms; with BatchNorm, seed 0 ended at an IoU of 21 for 50 without
# CGM. AdamW trains the classifiers themselves at the same speed whatever the weight.
SETTINGS = {
    "DATASETS.TRAIN": ("tiles_train",),
    "DATASETS.TEST": ("tiles_val",),
    "INPUT.CROP.SIZE": [TILE, TILE],
    "INPUT.STRETCH_CONTRAST": False,  # Done before the cut.
    "INPUT.COLOR.PROB": 0.0,
    "MODEL.UNET.CHANNELS": [8, 16, 32, 64, 128],
    "MODEL.SEM_SEG_HEAD.DEEP_SUPERVISION": "all",
    "MODEL.SEM_SEG_HEAD.EDGE_ORDER": "conv_up",
    "MODEL.SEM_SEG_HEAD.CGM.LOSS_WEIGHT": 0.1,
    "SOLVER.IMS_PER_BATCH": 8,
    "TEST.EVAL_PERIOD": 0,
}

COLUMNS = (
    "false-positive pixels",
    "per empty tile",
    "empty tiles with any",
    "IoU of tiles with nuclei",
    "of them blank",
)

logger = logging.getLogger(__name__)


def main(argv) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks cgm", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="folder that holds dsb2018/, as converted")
    add("--output", type=Path, required=True, help="folder to write to")
    add("--config-file", default=CONFIG, help="of the network (default: %(default)s)")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2], help="default: 0 1 2")
    add("--iterations", type=int, default=350, help="of each training (default: %(default)s)")
    add("--opts", nargs=argparse.REMAINDER, default=[], help="KEY VALUE pairs of the config")
    args = parser.parse_args(argv[1:])
    cfg = cgm_config(args.config_file, args.iterations, args.opts)
    for name in ("detectron2", "unet_sharp_det"):
        setup_logger(str(args.output), name=name)
    print(compare_cgm(cfg, args.data, args.output, args.seeds))


@dataclass(frozen=True)
class Figures:
    """What one predictor does on the test tiles.

    Attributes:
        false_positive_pixels: predicted pixels in all empty tiles.
        false_positives_per_tile: the same by the number of empty tiles.
        false_positive_tiles: number of empty tiles with any predicted pixel.
        iou: mean over the tiles with nuclei of |P & G| / |P | G|, in percent.
        blank_tiles: number of tiles with nuclei in which nothing is predicted.
    """

    false_positive_pixels: float
    false_positives_per_tile: float
    false_positive_tiles: float
    iou: float
    blank_tiles: float

    @classmethod
    def read(cls, images_file) -> "Figures":
        """Read them from the file that ``SemanticEvaluator`` wrote for one channel.

        Raises:
            DatasetError: all tiles are empty, or none is.
        """
        with open(images_file, newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        empty = [int(row["pred_pixels"]) for row in rows if int(row["gt_pixels"]) == 0]
        held = [row for row in rows if int(row["gt_pixels"]) > 0]
        if not (empty and held):
            raise DatasetError(
                f"{images_file}: {len(empty)} tiles are empty and {len(held)} hold nuclei, "
                "but the comparison needs both."
            )
        return cls(
            false_positive_pixels=sum(empty),
            false_positives_per_tile=sum(empty) / len(empty),
            false_positive_tiles=sum(pixels > 0 for pixels in empty),
            iou=float(np.mean([float(row["IoU"]) for row in held])),
            blank_tiles=sum(int(row["pred_pixels"]) == 0 for row in held),
        )

    @classmethod
    def mean(cls, several: Iterable["Figures"]) -> "Figures":
        return cls(*np.mean([dataclasses.astuple(each) for each in several], axis=0).tolist())


def cgm_config(config_file: str, iterations: int, opts: Sequence[str] = ()) -> CfgNode:
    """The config of the comparison: a file's, :data:`SETTINGS`, then options of the command line.

    Raises:
        ConfigError: it is not one of a :class:`UNetSharpHead` with one channel.
    """
    settings = {**SETTINGS, "SOLVER.MAX_ITER": iterations, "SOLVER.CHECKPOINT_PERIOD": iterations}
    pairs = [str(item) for pair in settings.items() for item in pair]
    cfg = setup_cfg(config_file, [*pairs, *opts])
    fall_back_to_cpu(cfg)
    head = cfg.MODEL.SEM_SEG_HEAD
    if head.NAME != "UNetSharpHead" or head.NUM_CLASSES != 1:
        raise ConfigError(
            f"{config_file}: CGM needs a UNetSharpHead of 1 class, not {head.NAME} of "
            f"{head.NUM_CLASSES}. Give a config of configs/DSB2018-SemanticSegmentation."
        )
    return cfg


def compare_cgm(cfg: CfgNode, data: Path, output: Path, seeds: Sequence[int]) -> str:
    """Train and evaluate with and without CGM, once per seed.

    Two networks of a seed have the same weights at the start, see the same images in the same
    order, and follow the same schedule. The network with CGM is evaluated twice, the second time
    without its gate, which tells the gate's effect from that of the training.

    Args:
        cfg: of :func:`cgm_config`.
        data: the folder that ``datasets/prepare_dsb2018.py`` wrote to, or its parent.
        output: folder for ``tiles/``, the trainings (``seed<N>/...``) and ``cgm.json``.
        seeds: of weights and data.

    Returns:
        str: a Markdown table.
    """
    tilings = _prepare_tiles(data, output / "tiles")
    figures = {name: {} for name in (WITHOUT, WITH, GATE_OFF)}
    for seed in seeds:
        for name, values in _run(cfg, output / f"seed{seed}", seed).items():
            figures[name][seed] = values
            logger.info(f"Seed {seed}, {name}: {values}")
    _write(output / RESULTS_FILE, cfg, tilings, figures)
    return _table(cfg, tilings, figures)


def _prepare_tiles(data: Path, output: Path) -> dict[str, Tiling]:
    """Cut and register ``tiles_train`` and ``tiles_val``."""
    root = data / "dsb2018" if (data / "dsb2018").is_dir() else data
    tilings = {}
    for split, tiling in TILINGS.items():
        json_file = root / "annotations" / f"dsb2018_{split}.json"
        if not json_file.is_file():
            raise DatasetError(
                f"--data: {json_file} does not exist. Run: python datasets/prepare_dsb2018.py "
                f"datasets/sample --output {root}"
            )
        tilings[split] = make_tiles(json_file, root, output, stretch_contrast=True, **tiling)
        register_coco_nuclei(
            f"tiles_{split}",
            output / "annotations" / json_file.name,
            output,
            [category["name"] for category in DSB2018_CATEGORIES],
        )
    return tilings


def _run(cfg: CfgNode, output: Path, seed: int) -> dict[str, Figures]:
    """Train both networks of a seed, and evaluate the three predictors."""
    plain, start = _train(cfg, output / "without", seed, cgm=False)
    figures = {WITHOUT: _evaluate(cfg, plain, output / "without")}
    guided, _ = _train(cfg, output / "with", seed, cgm=True, start=start)
    figures[WITH] = _evaluate(cfg, guided, output / "with")
    _remove_gate(guided)
    figures[GATE_OFF] = _evaluate(cfg, guided, output / "gate_off")
    return figures


def _train(
    cfg: CfgNode, output: Path, seed: int, *, cgm: bool, start: dict[str, Tensor] | None = None
) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return a trained network, and the weights that it had before.

    Args:
        start: weights to start from instead of those of the seed; CGM's may lack.
    """
    cfg = cfg.clone()
    cfg.SEED = seed
    cfg.OUTPUT_DIR = str(output)
    cfg.DATASETS.TEST = ()  # Evaluated below, at the end alone.
    cfg.MODEL.SEM_SEG_HEAD.CGM.ENABLED = cgm
    output.mkdir(parents=True, exist_ok=True)
    seed_all_rng(seed)
    trainer = NucleiTrainer(cfg)
    trainer.resume_or_load(resume=False)
    if start is not None:
        _copy_weights(start, trainer.model)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train()
    return trainer.model, before


def _copy_weights(weights: dict[str, Tensor], model: nn.Module) -> None:
    """Load all ``weights``; those of CGM, which consumes random numbers, stay the model's own."""
    difference = model.load_state_dict(weights, strict=False)
    if difference.unexpected_keys or any(".cgm." not in key for key in difference.missing_keys):
        raise RuntimeError(f"The networks differ in more than CGM: {difference}.")


def _remove_gate(model: nn.Module) -> None:
    model.sem_seg_head.decoder.cgm = nn.ModuleDict()


def _evaluate(cfg: CfgNode, model: nn.Module, output: Path) -> Figures:
    cfg = cfg.clone()
    cfg.OUTPUT_DIR = str(output)
    NucleiTrainer.test(cfg, model)
    return Figures.read(output / "inference" / SEMANTIC_IMAGES_FILE)


def _write(path: Path, cfg: CfgNode, tilings: dict[str, Tiling], figures: dict) -> None:
    content = {
        "machine": machine(),
        "iterations": cfg.SOLVER.MAX_ITER,
        "cgm_loss_weight": cfg.MODEL.SEM_SEG_HEAD.CGM.LOSS_WEIGHT,
        "tiles": {split: dataclasses.asdict(tiling) for split, tiling in tilings.items()},
        "seeds": {
            name: {str(seed): dataclasses.asdict(each) for seed, each in by_seed.items()}
            for name, by_seed in figures.items()
        },
        "mean": {
            name: dataclasses.asdict(Figures.mean(by_seed.values()))
            for name, by_seed in figures.items()
        },
    }
    write_json(path, content, indent=1)


def _table(cfg: CfgNode, tilings: dict[str, Tiling], figures: dict) -> str:
    rows = []
    for name, by_seed in figures.items():
        mean = Figures.mean(by_seed.values())
        rows += [_row(name, str(seed), each) for seed, each in by_seed.items()]
        rows.append(_row(f"**{name}**", "mean", mean))
    counts = "; ".join(
        f"{split} {tiling.kept} of {tiling.images} images, {tiling.kept_empty} empty"
        for split, tiling in tilings.items()
    )
    body = tabulate(rows, ("", "seed", *COLUMNS), tablefmt="github", disable_numparse=True)
    schedule = f"{cfg.SOLVER.MAX_ITER} iterations, weight of CGM's loss "
    schedule += f"{cfg.MODEL.SEM_SEG_HEAD.CGM.LOSS_WEIGHT:g}"
    title = f"CGM on tiles of {TILE} x {TILE}: {schedule}. Tiles: {counts}."
    return f"{title}\n{machine()}\n\n{body}\n"


def _row(name: str, seed: str, figures: Figures) -> list[str]:
    return [
        name,
        seed,
        f"{figures.false_positive_pixels:.0f}",
        f"{figures.false_positives_per_tile:.2f}",
        f"{figures.false_positive_tiles:.1f}".removesuffix(".0"),
        f"{figures.iou:.2f}",
        f"{figures.blank_tiles:.1f}".removesuffix(".0"),
    ]

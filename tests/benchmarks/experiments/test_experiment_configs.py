"""The experiments of the repository can be run, and are what they say."""

import functools
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog

from benchmarks.experiments import Experiment
from benchmarks.experiments.cost import network_cost
from benchmarks.experiments.run_folder import describe_changes, own_settings
from benchmarks.measure import multiply_adds
from unet_sharp_det.checkpoints.trained_model import build_on_meta
from unet_sharp_det.data.catalog import register_coco_nuclei

EXPERIMENTS = Path(__file__).parents[3] / "configs" / "experiments"


@pytest.fixture(autouse=True)
def data_sets_of_ingredients():
    for name in ("bbbc039_train", "bbbc039_val", "dsb2018_choice_train", "dsb2018_choice_val"):
        if name not in DatasetCatalog:
            register_coco_nuclei(name, "none.json", "images", ["nucleus"])


@functools.cache
def load(name):
    return Experiment.load(EXPERIMENTS / f"{name}.yaml")


@pytest.mark.parametrize("name", sorted(path.stem for path in EXPERIMENTS.glob("*.yaml")))
def test_loads_and_is_listed(name, repository):
    text = (repository / "configs" / "README.md").read_text()
    listed = text.split("\n## Experiments\n")[1].split("\n## ")[0].splitlines()
    (row,) = [line for line in listed if f"| `experiments/{name}.yaml`" in line.replace(", ", "| ")]
    assert load(name).seeds == ((0,) if "one seed" in row else (0, 1, 2))


@pytest.mark.parametrize("data", ["dsb2018", "brats19", "lits17", "lidc", "luna16"])
def test_networks_of_table_1_are_named_by_their_supervision(data):
    experiment = load(f"table1_{data}")
    assert experiment.metrics == ("sem_seg/IoU_image_mean", "sem_seg/Dice_image_mean")
    for run in experiment.runs:
        assert (run.cfg.MODEL.SEM_SEG_HEAD.DEEP_SUPERVISION != "none") == run.name.endswith("_ds")


def test_decoders_below_a_watershed_are_of_equal_cost():
    def decoder_macs(run):
        model = build_on_meta(run.cfg)
        maps = model.backbone(torch.zeros(1, 3, 256, 256, device="meta"))
        return multiply_adds(lambda: model.sem_seg_head.decoder.grid(list(maps.values())))

    *of_lite0, plain = load("watershed_compact").runs
    macs = [decoder_macs(run) for run in of_lite0]
    assert macs == pytest.approx([0.87e9] * len(macs), rel=0.03)
    whole = [network_cost(run.cfg).whole_gmac for run in (of_lite0[0], plain)]
    assert whole[1] == pytest.approx(whole[0], rel=0.1)


@pytest.mark.parametrize("bottom_up", ["vgg16", "r101"])
def test_necks_of_table_2_differ_in_nothing_else(bottom_up):
    runs = [run for run in load("table2_instance").runs if run.name.startswith(bottom_up)]
    schemes = ["fpn", "unetpp", "unet3p", "unetsharp"]
    assert [run.cfg.MODEL.FPN.SKIP_SCHEME for run in runs] == schemes
    for run in runs[1:]:
        changed = describe_changes(own_settings(runs[0].cfg), run.cfg)
        assert [change.split(":")[0] for change in changed] == ["MODEL.FPN.SKIP_SCHEME"]


def test_no_run_differs_from_itself():
    """Of which the arguments of a network of another library are not among the defaults."""
    for run in load("table3_dsb2018").runs:
        assert describe_changes(own_settings(run.cfg), run.cfg) == []


def test_ablations_change_one_thing():
    base, *others = load("ablations_compact").runs
    for run in others:
        changed = describe_changes(own_settings(base.cfg), run.cfg)
        expected = {"no_flips": 2, "scale_1": 3}.get(run.name, 1)
        assert len(changed) == expected, (run.name, changed)

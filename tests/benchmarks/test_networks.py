"""U-Nets against their literal form, the paper's counts, and pruning measured level by level."""

import json
import re

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from prediction_models import watershed_cfg

from benchmarks import memory, unets
from benchmarks.__main__ import main
from benchmarks.measure import in_fresh_process
from benchmarks.pruning import compare_levels
from benchmarks.unets import compare_unets
from unet_sharp_det.checkpoints.loading import SkipCheckpointer
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.data import register_coco_nuclei
from unet_sharp_det.data.label_maps import read_label_map
from unet_sharp_det.errors import CheckpointError, ConfigError, DatasetError, UserError
from unet_sharp_det.modeling import SkipUNet
from unet_sharp_det.modeling.pruning import cut_to_level
from unet_sharp_det.report.pruning import pruning_plot
from unet_sharp_det.training import NucleiTrainer

INSTANT = "configs/quick_schedules/unetsharp_cgm_instant_test.yaml"
DETECTOR = "configs/quick_schedules/mask_rcnn_lite0_unetsharp_instant_test.yaml"
CHANNELS = [4, 4, 8, 8, 16]
TINY = {"channels": (4, 6, 8, 10, 12), "edge_channels": 4}
DATASET = "test_benchmark"


def rows(out: str) -> dict[str, list[str]]:
    """The rows of a Markdown table, without its head, by their first cell."""
    lines = [line for line in out.splitlines() if line.startswith("|")][2:]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {first: others for first, *others in cells}


@pytest.fixture(autouse=True)
def one_thread():
    """The networks here are too small for several."""
    torch.set_num_threads(1)


class TestUnets:
    SECONDS = {name: float(2**i) for i, name in enumerate(unets.VARIANTS)}

    def test_ratios_are_to_the_literal_network(self, monkeypatch):
        def take_turns(steps, repeats):
            assert repeats == 7
            for step in steps.values():
                step()
            return {name: self.SECONDS[name] for name in steps}

        def peak(function, name, *arguments):
            return 100 * self.SECONDS[name]

        monkeypatch.setattr(unets, "take_turns", take_turns)
        monkeypatch.setattr(unets, "in_fresh_process", peak)
        out = compare_unets(32, 2, 7, **TINY)
        found = {name: list(map(float, numbers)) for name, numbers in rows(out).items()}
        assert list(found) == list(unets.VARIANTS)
        for name, x in self.SECONDS.items():
            assert found[name] == pytest.approx([x, 1 / x, x, 1 / x, 100 * x, x], abs=1e-3)
        difference, largest = re.search(r"literal ones: (\S+) .*up to (\S+)\)", out).groups()
        assert float(difference) < 1e-4 * float(largest)

    def test_variants_share_weights(self):
        nets = {name: unets.build_variant(name, TINY) for name in unets.VARIANTS}
        weights = {name: net.state_dict() for name, net in nets.items()}
        own = weights["up_conv"]
        for name in ("up_conv, checkpoint", "conv_up", "conv_up, checkpoint"):
            assert weights[name].keys() == own.keys()
            assert all(torch.equal(value, own[key]) for key, value in weights[name].items())
        alike = [k for k, v in weights["raw"].items() if k in own and own[k].shape == v.shape]
        assert sum(".nodes." in key for key in alike) > 100
        assert all(torch.equal(weights["raw"][key], own[key]) for key in alike)
        images = torch.randn(1, 3, 32, 32, device=next(nets["raw"].parameters()).device)
        found = {name: unets.logits(net.eval(), images) for name, net in nets.items()}
        assert torch.allclose(found["literal"], found["up_conv"], atol=1e-3)
        assert not torch.allclose(found["literal"], found["conv_up"], atol=1e-3)

    def test_memory_is_that_of_a_fresh_process(self, monkeypatch):
        monkeypatch.setenv("OMP_NUM_THREADS", "1")
        measured = in_fresh_process(unets.training_memory, "literal", 64, 1, TINY, False)
        assert 1 < measured < 1000


def test_a_training_holds_weights_gradients_and_two_moments_of_adam(monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(memory, "ROWS", {"fp32": memory.ROWS["fp32"]})
    main(["memory", "INPUT.VOLUME.PATCH_SIZE", "[32, 32, 32]"])
    held = 4 * 4 * 28.5593e6 / 2**30
    ((gibibytes, ratio),) = rows(capsys.readouterr().out).values()
    assert held < float(gibibytes) < 3 * held
    assert ratio == "1.00"


class TestCounts:
    MILLIONS = {
        "UNet": 7.8525,
        "WUNet": 9.3929,
        "UNet2+": 9.1633,
        "UNet3+": 9.7879,
        "UNet# L1, raw": 0.1030,
        "UNet# L2, raw": 0.5560,
        "UNet# L3, raw": 2.5311,
        "UNet# L4, raw": 10.7485,
        "UNet# L1, f": 0.1030,
        "UNet# L2, f": 0.5653,
        "UNet# L3, f": 2.4300,
        "UNet# L4, f": 9.7169,
        "UNet# L4, f, conv_up": 9.7169,
        "UNet# L4, literal": 9.7169,
        "V-Net": 26.3879,
        "WV-Net": 33.3958,
        "V-Net2+": 27.3705,
        "V-Net3+": 27.8394,
        "V-Net#": 28.5593,
        "SegNetr": 12.3843,
        "SegNetr-S": 3.4637,
    }
    GMAC = {
        "UNet": 13.95,
        "UNet2+": 34.49,
        "UNet3+": 41.81,
        "UNet# L4, raw": 73.14,
        "UNet# L4, literal": 71.18,
        "UNet# L4, f, conv_up": 39.81,
    }

    def test_the_table(self, capsys):
        main(["counts"])
        found = rows(capsys.readouterr().out)
        published = found.pop("UNet 3+ as published")
        assert published[1] == "-"
        assert {name: float(row[2]) for name, row in found.items()} == self.MILLIONS
        assert {name: float(found[name][3]) for name in self.GMAC} == self.GMAC
        assert float(found["UNet# L4, f"][3]) < 0.7 * self.GMAC["UNet# L4, literal"]
        assert all(row[3] == "-" for name, row in found.items() if name.startswith("V-Net"))
        for name, (_, paper, here, _, remark) in found.items():
            if paper != "-":
                # The paper rounds some counts and cuts others off.
                assert (abs(float(paper) - float(here)) >= 0.01) == bool(remark), name
        assert found["V-Net#"][-1] == "no reading gives it"
        assert found["SegNetr-S"][-1] == "2.60 GMAC at 224 x 224, paper: 2.71"


@pytest.fixture(scope="module")
def two_images(converted_sample, tmp_path_factory):
    content = json.loads((converted_sample / "annotations" / "dsb2018_train.json").read_text())
    content["images"] = sorted(content["images"], key=lambda x: x["height"] * x["width"])[:2]
    ids = {image["id"] for image in content["images"]}
    content["annotations"] = [n for n in content["annotations"] if n["image_id"] in ids]
    path = tmp_path_factory.mktemp("benchmark") / "two.json"
    path.write_text(json.dumps(content))
    register_coco_nuclei(DATASET, path, converted_sample, ["nucleus"])
    yield DATASET
    DatasetCatalog.remove(DATASET)
    MetadataCatalog.remove(DATASET)


@pytest.fixture
def config(repository):
    def read(*options):
        fixed = ["MODEL.DEVICE", "cpu", "DATALOADER.NUM_WORKERS", "0"]
        return setup_cfg(str(repository / INSTANT), [*fixed, *options])

    return read


@pytest.fixture
def trained(tmp_path):
    """A function that saves a random network of a config and returns it and its path."""

    def save(cfg):
        torch.manual_seed(0)
        whole = build_model(cfg).eval()
        SkipCheckpointer(whole, str(tmp_path)).save("model")
        return whole, str(tmp_path / "model.pth")

    return save


def iou_of_branch(cfg, whole, level: int) -> float:
    """The mean over the images, in percent, by hand."""
    records = {record["image_id"]: record for record in DatasetCatalog.get(DATASET)}
    values = []
    for (record,) in NucleiTrainer.build_test_loader(cfg, DATASET):
        image = ((record["image"] - whole.pixel_mean) / whole.pixel_std)[None]
        with torch.no_grad():
            maps = list(whole.backbone(image).values())
            predicted = whole.sem_seg_head.decoder(maps)[(0, level)].logits[0, 0] >= 0
        truth = torch.from_numpy(read_label_map(records[record["image_id"]]) == 1)
        assert predicted.shape == truth.shape
        values.append(100 * (predicted & truth).sum() / (predicted | truth).sum())
    return float(torch.stack(values).mean())


class TestPruning:
    WITHOUT_CGM = ("MODEL.SEM_SEG_HEAD.CGM.ENABLED", "False")
    TINY = {"size": 64, "batch": 2, "repeats": 1}

    def test_every_level(self, repository, config, trained, two_images, tmp_path, capsys):
        cfg = config(*self.WITHOUT_CGM)
        whole, weights = trained(cfg)
        command = ["pruning", "--config-file", str(repository / INSTANT), "--weights", weights]
        command += ["--dataset", two_images, "--size", "64", "--batch", "2", "--repeats", "1"]
        command += ["--output", str(tmp_path / "out"), "MODEL.DEVICE", "cpu"]
        main([*command, "DATALOADER.NUM_WORKERS", "0", *self.WITHOUT_CGM])
        out = capsys.readouterr().out

        content = json.loads((tmp_path / "out" / "pruning.json").read_text())
        assert set(content) == {"title", "machine", "measure", "levels"}
        levels = content["levels"]
        assert [level["level"] for level in levels] == [1, 2, 3, 4]
        for level in levels:
            net = SkipUNet(channels=CHANNELS[: level["level"] + 1], edge_channels=4)
            assert level["params"] == sum(p.numel() for p in net.parameters())
            assert level["images_per_s"] > 0
            expected = iou_of_branch(cfg, whole, level["level"])
            assert level["quality"] == pytest.approx(expected, abs=1e-3)
            row = [float(x) for x in rows(out)[f"L_{level['level']}"]]
            assert row[0] == pytest.approx(level["params"] / 1e6, abs=1e-4)
            assert row[-1] == pytest.approx(level["quality"], abs=1e-3)
        fine = 9 * (3 * 4 + 4 * 4) + 9 * (8 * 4 + 4 * 4) + 4  # X[0,0], X[0,1] and its head
        coarse = 9 * (4 * 4 + 4 * 4)  # X[1,0]
        assert levels[0]["gmac"] == pytest.approx((64**2 * fine + 32**2 * coarse) / 1e9)
        assert (tmp_path / "out" / "pruning.png").stat().st_size > 1000
        plot = pruning_plot(tmp_path / "out" / "pruning.json")
        assert len(plot.axes.patches) == 4

    def test_levels_that_find_objects(self, two_images, trained, tmp_path):
        cfg = watershed_cfg()
        cfg.DATASETS.TEST = (two_images,)
        cfg.OUTPUT_DIR = str(tmp_path)
        whole, weights = trained(cfg)
        out = compare_levels(cfg, weights, two_images, **self.TINY)
        assert "DSB_score on" in out
        assert list(rows(out)) == ["L_1", "L_2"]
        for level in (1, 2):
            pruned, pruned_cfg = cut_to_level(whole, cfg, level)
            expected = NucleiTrainer.test(pruned_cfg, pruned)["instances"]["DSB_score"]
            assert float(rows(out)[f"L_{level}"][-1]) == pytest.approx(expected, abs=1e-3)

    def test_with_cgm_and_branches_that_are_not_there(self, config, trained, two_images):
        supervision = ("MODEL.SEM_SEG_HEAD.DEEP_SUPERVISION", "none")
        cfg = config(*supervision)
        out = compare_levels(cfg, trained(cfg)[1], two_images, **self.TINY)
        assert list(rows(out)) == ["L_4"]
        left_out = [line for line in out.splitlines() if line.startswith("Left out: level")]
        assert [line.split()[3] for line in left_out] == ["1:", "2:", "3:"]
        assert all("the network has no branch at" in line for line in left_out)

    def test_a_scheme_without_levels(self, config, two_images):
        cfg = config("MODEL.SEM_SEG_HEAD.SKIP_SCHEME", "unet")
        with pytest.raises(ConfigError, match=r"no node X\[0,1\].* Prune unetpp or unetsharp"):
            compare_levels(cfg, "none.pth", two_images, **self.TINY)

    def test_what_is_given_is_checked(self, repository, config, two_images, tmp_path):
        with pytest.raises(CheckpointError, match="'none.pth': there is no file of weights"):
            compare_levels(config(), "none.pth", two_images, **self.TINY)
        with pytest.raises(DatasetError, match="--dataset: 'test_benchmar.*Did you mean"):
            compare_levels(config(), "none.pth", "test_benchmar", **self.TINY)
        detector = setup_cfg(str(repository / DETECTOR), ["MODEL.DEVICE", "cpu"])
        with pytest.raises(ConfigError, match="needs a SemanticSegmentor or Watershed"):
            compare_levels(detector, "none.pth", two_images, **self.TINY)
        output = tmp_path / "file"
        output.touch()
        with pytest.raises(UserError, match="--output .*file: is a file"):
            compare_levels(config(), "none.pth", two_images, **self.TINY, output=str(output))


class TestArguments:
    def test_a_number_below_one(self, capsys):
        with pytest.raises(SystemExit):
            main(["unets", "--sizes", "0"])
        assert "0 is not 1 or more" in capsys.readouterr().err

    def test_a_table_per_size(self, monkeypatch, capsys):
        monkeypatch.setattr(unets, "compare_unets", lambda *arguments: f"unets {arguments}")
        assert main(["unets", "--sizes", "64", "32", "--batch", "2"]) == 0
        assert capsys.readouterr().out == "unets (64, 2, 3, False)\nunets (32, 2, 3, False)\n"

    def test_no_such_benchmark(self, capsys):
        assert main(["unet"]) == 2
        assert "python -m benchmarks unets" in capsys.readouterr().err

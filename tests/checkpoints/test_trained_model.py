"""Which checkpoints are opened, and that others are refused before they take memory."""

import json
import struct

import pytest
import torch
import yaml
from detectron2.modeling import build_model
from prediction_models import compact_detector_cfg, semantic_cfg

from unet_sharp_det import skip_schemes
from unet_sharp_det.checkpoints.config import config_of
from unet_sharp_det.checkpoints.loading import SkipCheckpointer, scheme_modules
from unet_sharp_det.checkpoints.trained_model import (
    build_on_meta,
    load_trained_model,
    open_trained_model,
)
from unet_sharp_det.checkpoints.weight_files import write_safetensors
from unet_sharp_det.errors import CheckpointError, ConfigError, SchemeError, UserError
from unet_sharp_det.files import write_text
from unet_sharp_det.prediction import Predictor

MASK = "roi_heads.mask_head.predictor.weight"


@pytest.fixture(scope="module")
def detector():
    """(weights, config) of a small detector."""
    cfg = compact_detector_cfg()
    torch.manual_seed(0)
    return build_model(cfg).state_dict(), cfg


@pytest.fixture
def write(tmp_path, detector):
    """A function (weights, config text, suffix) that writes a checkpoint with its config."""

    def run(weights=None, text=None, suffix=".safetensors"):
        weights = detector[0] if weights is None else weights
        text = detector[1].dump() if text is None else text
        path = tmp_path / f"model{suffix}"
        if suffix == ".safetensors":
            write_safetensors(path, weights, text)
        else:
            torch.save({"model": weights}, path)
            write_text(tmp_path / "config.yaml", text)
        return path

    return run


def changed(weights, **entries):
    return weights | {MASK: entries["to"](weights[MASK])}


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
class TestWeights:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (
                lambda w: {k: v for k, v in w.items() if not k.startswith("roi_heads")},
                r"16 of its \d+ tensors are missing: 'roi_heads.box_head.fc1.weight', .*, \.\.\.",
            ),
            (lambda w: dict(list(w.items())[::2]), r"tensors are missing.*--config-file"),
            (lambda w: {"a": torch.ones(1)}, r"1 are of another model: 'a'"),
            (lambda w: w | {"extra.weight": torch.ones(1)}, "another model: 'extra.weight'"),
            (
                lambda w: changed(w, to=lambda v: v[:, 1:]),
                rf"1 have another shape: '{MASK}' is \(1, 15, 1, 1\), expected \(1, 16, 1, 1\)",
            ),
            (lambda w: changed(w, to=lambda v: v * float("nan")), f"'{MASK}' has NaN or inf"),
            (lambda w: changed(w, to=lambda v: v / 0), f"'{MASK}' has NaN or inf"),
            (lambda w: changed(w, to=lambda v: v.double() + 1e300), f"'{MASK}' has NaN or inf"),
            (lambda w: changed(w, to=lambda v: v.to(torch.complex64)), "no tensor of numbers"),
            (lambda w: changed(w, to=lambda v: v.long()), r"no tensor of numbers.*int64"),
            (lambda w: changed(w, to=lambda v: v.to(torch.float8_e4m3fn)), "float8"),
            (lambda w: w | {"\x1b[31m": torch.ones(1)}, "names that no network has"),
        ],
    )
    def test_that_are_not_the_model_s(self, write, detector, suffix, change, message):
        path = write(change(detector[0]), suffix=suffix)
        with pytest.raises(CheckpointError, match=message) as raised:
            Predictor.from_checkpoint(path, device="cpu")
        assert path.name in str(raised.value)

    def test_of_other_precision_are_read(self, write, detector, suffix):
        weights = {
            name: value.double() if value.is_floating_point() else value
            for name, value in detector[0].items()
            if not name.endswith("num_batches_tracked")
        }
        model = open_trained_model(write(weights, suffix=suffix), device="cpu").model
        assert all(torch.equal(v, detector[0][n]) for n, v in model.state_dict().items())

    def test_of_another_scheme_name_it(self, write, detector, suffix):
        cfg = detector[1].clone()
        cfg.MODEL.FPN.SKIP_SCHEME = "unetpp"
        path = write(build_model(cfg).state_dict(), suffix=suffix)
        with pytest.raises(CheckpointError, match=r"SKIP_SCHEME unetpp\.$"):
            open_trained_model(path, device="cpu")


def test_an_empty_name_is_refused():
    cfg = semantic_cfg()
    with pytest.raises(CheckpointError, match="MODEL.WEIGHTS is empty"):
        load_trained_model(cfg)


def test_a_tensor_that_claims_a_terabyte(write, detector):
    path = write(changed(detector[0], to=lambda v: v[0, 0, 0].expand(10**12)), suffix=".pth")
    with pytest.raises(CheckpointError, match=r"is \(1000000000000,\), expected"):
        open_trained_model(path, device="cpu")


def test_headers_that_lie(write):
    path = write()
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header, body = json.loads(data[8 : 8 + size]), data[8 + size :]
    first, second = header[MASK], header["roi_heads.mask_head.predictor.bias"]
    for text in (
        json.dumps(header | {MASK: first | {"data_offsets": second["data_offsets"]}}),
        json.dumps(header | {MASK: first | {"data_offsets": [0, 10**12]}}),
        json.dumps(header)[:-1] + f", {json.dumps({MASK: second})[1:]}",
        json.dumps(header | {"__metadata__": {"config": 3}}),
    ):
        path.write_bytes(struct.pack("<Q", len(text)) + text.encode() + body)
        with pytest.raises(UserError, match=path.name):
            open_trained_model(path, device="cpu")


class TestConfigOfAStranger:
    @pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
    @pytest.mark.parametrize(
        "base", ["http://127.0.0.1:9/x.yaml", "{folder}/base.yaml", "base.yaml", "[base.yaml]"]
    )
    def test_names_no_other_file(self, write, detector, tmp_path, monkeypatch, suffix, base):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "base.yaml").write_text("SEED: 1\n")
        text = f"_BASE_: {base.format(folder=tmp_path)}\n{detector[1].dump()}"
        with pytest.raises(ConfigError, match=r"the config in .*another one \(_BASE_\)"):
            config_of(write(text=text, suffix=suffix))

    def test_given_by_the_user_may_have_a_base(self, write, tmp_path):
        (tmp_path / "base.yaml").write_text("SEED: 1\n")
        (tmp_path / "own.yaml").write_text("_BASE_: base.yaml\n")
        assert config_of(write(), tmp_path / "own.yaml").SEED == 1

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("A: " + "[" * 100_000, "no plain YAML"),
            ("A: " + "[" * 50 + "]" * 50, "too deep"),
            ("MODEL: &a {MODEL: *a}", "too deep"),
            (
                "a: &a [1, 1, 1]\n"
                + "".join(
                    f"{n}: &{n} [*{m},*{m},*{m}]\n"
                    for m, n in zip("abcdefghijkl", "bcdefghijklm", strict=True)
                ),
                "too many values",
            ),
            ("a: &a {k: 1}\nb: {<<: *a}", "no plain YAML"),
            ("A: !!python/object/apply:os.getcwd []", "no plain YAML"),
            ("SEED: 9999-99-99", "no plain YAML"),
            ("OUTPUT_DIR: " + "x" * 300_000, "more than 262144 characters"),
            ("OUTPUT_DIR: " + "-" * 2000 + "1", "too long"),
            ('OUTPUT_DIR: "\\e[31m"', "not printable"),
            ("[1, 2]", "'KEY: value' pairs"),
            ("1: 2", "'1' is not known"),
            ("MODEL: {FPM: 1}", "Did you mean 'MODEL.FPN'"),
            ("MODEL: 3", "wrong type"),
            ("INPUT: {FORMAT: null}", "INPUT.FORMAT is None, of another type than BGR"),
            ("INPUT: {SCALE_TEST: 1.0e+9}", r"INPUT.SCALE_TEST is 1000000000.0, but may be 0 to 8"),
            ("INPUT: {SCALE_TEST: .nan}", "not finite"),
            ("SEED: 1" + ":59" * 1000, "too large"),
            ("MODEL: {RPN: {BBOX_REG_WEIGHTS: [a, b, c, d]}}", "WEIGHTS is .*, of another"),
            ("INPUT: {MIN_SIZE_TEST: 1000000}", "MIN_SIZE_TEST"),
            ("MODEL: {ROI_MASK_HEAD: {POOLER_RESOLUTION: 100000}}", "POOLER_RESOLUTION"),
            ("MODEL: {ROI_MASK_HEAD: {NUM_CONV: 1000000000}}", "NUM_CONV is 1000000000"),
            ("MODEL: {ROI_BOX_HEAD: {NUM_FC: 1000000000}}", "NUM_FC is 1000000000"),
            ("MODEL: {RETINANET: {NUM_CONVS: 1000000000}}", "NUM_CONVS is 1000000000"),
            ("MODEL: {PIXEL_STD: [0.0, 1.0, 1.0]}", "PIXEL_STD"),
        ],
    )
    def test_is_plain_and_bounded(self, write, text, message):
        with pytest.raises(ConfigError, match=rf"the config in .*{message}.*--config-file"):
            config_of(write(text=text))

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("META_ARCHITECTURE", "Unknown"),
            ("META_ARCHITECTURE", "RetinaNet"),
            ("FPN.OUT_CHANNELS", -64),
            ("FPN.OUT_CHANNELS", 10**12),
            ("ROI_MASK_HEAD.NUM_CONV", 10**12),
            ("ROI_HEADS.NUM_CLASSES", 10**12),
            ("ANCHOR_GENERATOR.SIZES", []),
            ("ANCHOR_GENERATOR.ASPECT_RATIOS", [[]]),
            ("PIXEL_MEAN", [1.0]),
            ("TIMM.NAME", "hf-hub:somebody/model"),
            ("KEYPOINT_ON", True),
            ("MASK_ON", False),
        ],
    )
    def test_describes_the_network_in_the_file(self, write, detector, monkeypatch, key, value):
        content = yaml.safe_load(detector[1].dump())
        *nodes, last = ["MODEL", *key.split(".")]
        node = content
        for name in nodes:
            node = node[name]
        node[last] = value
        monkeypatch.setattr(
            "unet_sharp_det.checkpoints.trained_model.load_trained_model",
            lambda *_: pytest.fail("took memory"),
        )
        with pytest.raises(
            (CheckpointError, ConfigError), match="model.safetensors.*--config-file"
        ):
            open_trained_model(write(text=yaml.safe_dump(content)), device="cpu")

    def test_tells_nothing_of_places(self, write, detector):
        content = yaml.safe_load(detector[1].dump())
        content["OUTPUT_DIR"] = "/elsewhere"
        content["MODEL"]["DEVICE"], content["MODEL"]["WEIGHTS"] = "cuda:7", "http://127.0.0.1:9/w"
        content["DATASETS"]["TRAIN"] = [["odd"], "../../etc"]
        opened = open_trained_model(write(text=yaml.safe_dump(content)), device="cpu")
        assert opened.cfg.MODEL.WEIGHTS.endswith("model.safetensors")
        assert opened.model.device.type == "cpu"


def test_a_model_on_meta_takes_no_memory():
    assert all(parameter.is_meta for parameter in build_on_meta(semantic_cfg()).parameters())


@pytest.fixture
def own_scheme(monkeypatch):
    """A scheme that a module of the user's registers."""

    def nested(depth):
        return skip_schemes.unetpp(depth)

    nested.__module__ = "my_schemes"
    monkeypatch.setattr(skip_schemes, "_SCHEMES", dict(skip_schemes._SCHEMES))
    monkeypatch.setattr(skip_schemes, "_ALIASES", dict(skip_schemes._ALIASES))
    skip_schemes.register_scheme("nested")(nested)
    return "nested"


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_an_unknown_scheme_is_told_with_its_module(tmp_path, own_scheme, monkeypatch, suffix):
    cfg = semantic_cfg()
    cfg.MODEL.SEM_SEG_HEAD.SKIP_SCHEME = own_scheme
    model, path = build_model(cfg), tmp_path / f"model{suffix}"
    if suffix == ".pth":
        SkipCheckpointer(model, str(tmp_path)).save("model")
        write_text(tmp_path / "config.yaml", cfg.dump())
    else:
        modules = scheme_modules(model)
        write_safetensors(path, model.state_dict(), cfg.dump(), scheme_modules=modules)
    assert open_trained_model(path, device="cpu").model is not None
    monkeypatch.undo()
    with pytest.raises(SchemeError, match="'nested' is not known.*my_schemes: import that first"):
        open_trained_model(path, device="cpu")


def test_a_scheme_of_the_package_needs_no_module():
    assert scheme_modules(build_on_meta(semantic_cfg())) == []


class TestClassNames:
    def opened(self, folder, names, *opts):
        cfg = semantic_cfg()
        cfg.DATASETS.TRAIN = cfg.DATASETS.TEST = ("not_registered_here",)
        model = build_model(cfg)
        SkipCheckpointer(model, str(folder), class_names=names).save("model")
        write_text(folder / "config.yaml", cfg.dump())
        return open_trained_model(folder / "model.pth", config_opts=opts, device="cpu")

    def test_are_kept_by_the_checkpoint(self, tmp_path):
        assert self.opened(tmp_path, ["glomerulus"]).cfg.MODEL.CLASS_NAMES == ["glomerulus"]

    def test_of_the_config_come_first(self, tmp_path):
        opened = self.opened(tmp_path, ["glomerulus"], "MODEL.CLASS_NAMES", "['cell']")
        assert opened.cfg.MODEL.CLASS_NAMES == ["cell"]

    def test_that_nobody_gave(self, tmp_path):
        assert self.opened(tmp_path, []).cfg.MODEL.CLASS_NAMES == ["object"]

    @pytest.mark.parametrize("names", [["a", "b"], ["\x1b[31m"], [1], ["x" * 200]])
    def test_that_are_none(self, tmp_path, names):
        with pytest.raises(CheckpointError, match="class names are not 1 different short texts"):
            self.opened(tmp_path, names)

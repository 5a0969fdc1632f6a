"""Configs from files and command lines, and the messages for what is wrong in them."""

import re
import subprocess
import sys

import pytest
import torch
import yaml
from detectron2.config import get_cfg
from scripts import load_script

from unet_sharp_det.config import find_config, setup_cfg
from unet_sharp_det.errors import ConfigError, SchemeError, run_cli
from unet_sharp_det.runtime import fall_back_to_cpu
from unet_sharp_det.skip_schemes import resolve_scheme
from unet_sharp_det.training.lazy import LAZY_KEYS, read_config


@pytest.fixture
def yaml_file(tmp_path):
    def write(text, name="config.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def test_a_base_and_options_are_merged_in_order(yaml_file):
    yaml_file('MODEL:\n  FPN:\n    SKIP_SCHEME: "unetpp"\n    NODE_CHANNELS: 32\n', "base.yaml")
    path = yaml_file('_BASE_: "base.yaml"\nMODEL:\n  FPN:\n    NODE_CHANNELS: 48\n')
    cfg = setup_cfg(path, ["MODEL.FPN.EDGE_CHANNELS", "24"])
    assert cfg.MODEL.FPN.SKIP_SCHEME == "unetpp"
    assert (cfg.MODEL.FPN.NODE_CHANNELS, cfg.MODEL.FPN.EDGE_CHANNELS) == (48, 24)


def test_unknown_key_in_a_file(yaml_file):
    path = yaml_file("MODEL:\n  FPN:\n    SKIP_SCHEM: fpn\n")
    with pytest.raises(ConfigError, match="Did you mean 'MODEL.FPN.SKIP_SCHEME'") as caught:
        setup_cfg(path)
    assert path in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["SOLVER.MAX_ITERS", "3"], "command line.*Did you mean 'SOLVER.MAX_ITER'"),
        (["SOLVER.MAX_ITER", "3", "--resume"], "--resume must stand before"),
        (["SOLVER.MAX_ITER"], "KEY VALUE"),
        (["SOLVER.MAX_ITER", "many"], "a value is of a wrong type.*SOLVER.MAX_ITER"),
    ],
)
def test_mistakes_on_the_command_line(options, message):
    with pytest.raises(ConfigError, match=message):
        setup_cfg("", options)


@pytest.mark.parametrize("text", ["MODEL: [", "- a\n- b\n", "just words"])
def test_no_yaml_config(yaml_file, text):
    with pytest.raises(ConfigError, match="no valid YAML config"):
        setup_cfg(yaml_file(text))


@pytest.mark.parametrize(
    ("line", "tag"),
    [
        ("!!python/object/apply:os.mkdir [{}]", "!!python/object/apply:os.mkdir"),
        ("!!python/object/new:os.mkdir [{}]", "!!python/object/new:os.mkdir"),
        ("!!python/name:os.mkdir", "!!python/name:os.mkdir"),
        ("!!python/tuple [1, 2]", "!!python/tuple"),
        ('!!python/object/apply:eval [\'__import__("os").mkdir("{}")\']', "apply:eval"),
    ],
)
@pytest.mark.parametrize("in_base", [False, True])
def test_python_in_a_file_is_named_and_not_run(yaml_file, tmp_path, line, tag, in_base):
    victim = tmp_path / "made_by_payload"
    path = yaml_file("MODEL:\n  DEVICE: cpu\nOUTPUT_DIR: " + line.format(victim))
    top = yaml_file("_BASE_: config.yaml\nVERSION: 2\n", "top.yaml") if in_base else path
    with pytest.raises(ConfigError, match=rf"config.yaml, line 3: '.*{re.escape(tag)}' is Python"):
        setup_cfg(top)
    assert not victim.exists()


def test_precomputed_proposals_are_refused(yaml_file, tmp_path):
    path = yaml_file("MODEL:\n  LOAD_PROPOSALS: True\n")
    for arguments in ((path,), ("", ["MODEL.LOAD_PROPOSALS", "True"])):
        with pytest.raises(ConfigError, match="MODEL.LOAD_PROPOSALS.*pickles"):
            setup_cfg(*arguments)


def test_the_config_that_a_training_writes_loads(repository, yaml_file):
    path = repository / "configs/DSB2018-InstanceSegmentation/mask_rcnn_R_50_unetsharp.yaml"
    cfg = setup_cfg(str(path), ["DATASETS.TEST", "('a', 'b')"])
    read = setup_cfg(yaml_file(cfg.dump()))
    assert yaml.safe_load(read.dump()) == yaml.safe_load(cfg.dump())


def test_missing_files(yaml_file):
    with pytest.raises(ConfigError, match="'nowhere.yaml': there is no config file"):
        setup_cfg("nowhere.yaml")
    with pytest.raises(ConfigError, match="_BASE_.*nowhere.yaml"):
        setup_cfg(yaml_file('_BASE_: "nowhere.yaml"\n'))


@pytest.mark.parametrize(
    "name",
    [
        "DSB2018-InstanceSegmentation/mask_rcnn_R_50_unetpp.yaml",
        "LazyConfigs/mask_rcnn_R_50_unetsharp.py",
    ],
)
def test_configs_of_the_model_zoo_have_names(repository, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    assert find_config(name) == str(repository / "configs" / name)
    cfg, _ = read_config(name, [])
    assert cfg.SOLVER.MAX_ITER == read_config(find_config(name), [])[0].SOLVER.MAX_ITER
    for wrong in (name.replace("R_50", "R50"), name.rpartition("/")[2]):
        with pytest.raises(ConfigError, match=f"'{wrong}': there is no.*Did you mean '{name}'"):
            read_config(wrong, [])


def test_an_unquoted_hash_becomes_none_and_is_explained(yaml_file):
    cfg = setup_cfg(yaml_file("MODEL:\n  FPN:\n    SKIP_SCHEME: #\n"))
    assert cfg.MODEL.FPN.SKIP_SCHEME is None
    with pytest.raises(SchemeError, match="unquoted #"):
        resolve_scheme(cfg.MODEL.FPN.SKIP_SCHEME)


def test_a_quoted_hash_works(yaml_file):
    cfg = setup_cfg(yaml_file('MODEL:\n  FPN:\n    SKIP_SCHEME: "#"\n'))
    assert resolve_scheme(cfg.MODEL.FPN.SKIP_SCHEME) == "unetsharp"


def values(node, prefix=""):
    """The values of a config by their dotted keys."""
    found = {}
    for key, value in node.items():
        is_node = isinstance(value, dict) and value  # An empty one is a value.
        found |= values(value, f"{prefix}{key}.") if is_node else {f"{prefix}{key}": value}
    return found


def test_no_key_of_detectron2_is_changed():
    ours = values(setup_cfg())
    assert {key: ours[key] for key in values(get_cfg())} == values(get_cfg())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_fallback_to_the_cpu_says_so(caplog):
    cfg = setup_cfg("", ["SOLVER.AMP.ENABLED", "True"])
    fall_back_to_cpu(cfg)
    assert cfg.MODEL.DEVICE == "cpu"
    assert not cfg.SOLVER.AMP.ENABLED
    assert [r.message for r in caplog.records if "running on the CPU" in r.message]


def test_defects_keep_their_traceback():
    def main():
        raise ValueError("a defect")

    with pytest.raises(ValueError, match="a defect"):
        run_cli(main)


def test_the_page_of_keys_is_what_the_comments_say(repository):
    """If it is not: python docs/write_config.py."""
    tool = load_script(repository / "docs" / "write_config.py")
    page = tool.document(tool.SOURCE.read_text(), LAZY_KEYS)
    assert tool.TARGET.read_text() == page

    added = set(values(setup_cfg())) - set(values(get_cfg()))
    assert set(re.findall(r"^\| `([A-Z][\w.]+)` \| `.*` \| .*\. \|$", page, re.MULTILINE)) == added


def test_prediction_imports_nothing_of_the_training(environment):
    code = (
        "import sys, unet_sharp_det.prediction.predictor\n"
        "print({'detectron2.engine', 'detectron2.evaluation'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"

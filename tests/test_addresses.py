"""Weights, configs and data sets at addresses of fsspec."""

import os

import fsspec
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager

from unet_sharp_det.addresses import local_path
from unet_sharp_det.checkpoints import config_of
from unet_sharp_det.checkpoints.sources import model_file
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.data.catalog import register_dsb2018
from unet_sharp_det.data.folders import register_folders
from unet_sharp_det.errors import ConfigError, DatasetError, UserError
from unet_sharp_det.evaluation.evaluators.coco import NucleiCOCOEvaluator
from unet_sharp_det.evaluation.record import EvaluationRecord
from unet_sharp_det.images.decoding import read_image


def test_a_file_is_fetched_once_until_it_changes(memory_store, monkeypatch):
    fetched, get_file = [], type(memory_store).get_file
    monkeypatch.setattr(
        type(memory_store),
        "get_file",
        lambda *args, **_: fetched.append(args[1]) or get_file(*args),
    )
    memory_store.pipe_file("/bucket/a.txt", b"old")
    for _ in range(2):
        assert local_path("memory://bucket/a.txt").read_bytes() == b"old"
    memory_store.pipe_file("/bucket/a.txt", b"new")
    assert local_path("memory://bucket/a.txt").read_bytes() == b"new"
    assert len(fetched) == 2
    assert not local_path("memory://bucket/none.txt").exists()
    assert PathManager.open("memory://bucket/a.txt").read() == "new"


def test_a_missing_package_and_an_unknown_store_are_told():
    fsspec.register_implementation("absent", "absent.Store", errtxt="Install absent to use it")
    with pytest.raises(UserError, match="absent://a/b: a package is missing. Install absent to"):
        local_path("absent://a/b")
    with pytest.raises(UserError, match="nosuch://a/b: cannot be reached .*nosuch.*Check the"):
        local_path("nosuch://a/b")


def test_weights_with_a_config_beside_them(memory_store):
    text = config_of("nuclei-fast").dump()
    memory_store.put_file(str(model_file("nuclei-fast")), "/bucket/run/model.safetensors")
    cfg = config_of("memory://bucket/run/model.safetensors")
    assert local_path(cfg.MODEL.WEIGHTS).read_bytes() == model_file("nuclei-fast").read_bytes()
    memory_store.pipe_file("/bucket/run/model.pth", b"")
    with pytest.raises(ConfigError, match="memory://bucket/run/model.pth: no config.yaml beside"):
        config_of("memory://bucket/run/model.pth")
    memory_store.pipe_file("/bucket/run/config.yaml", text.encode())
    assert config_of("memory://bucket/run/model.pth").MODEL.META_ARCHITECTURE == (
        cfg.MODEL.META_ARCHITECTURE
    )


def test_a_config_whose_base_is_in_another_folder(memory_store):
    memory_store.pipe_file("/bucket/base/a.yaml", b"SOLVER: {MAX_ITER: 7}")
    memory_store.pipe_file("/bucket/own/b.yaml", b"_BASE_: ../base/a.yaml")
    assert setup_cfg("memory://bucket/own/b.yaml").SOLVER.MAX_ITER == 7
    memory_store.pipe_file("/bucket/own/c.yaml", b"_BASE_: none.yaml")
    with pytest.raises(ConfigError, match="none.yaml' does not exist"):
        setup_cfg("memory://bucket/own/c.yaml")


class TestDatasets:
    @pytest.fixture
    def root(self, memory_store, converted_sample, monkeypatch):
        memory_store.put(f"{converted_sample}/annotations", "/data/dsb2018/", recursive=True)
        memory_store.put(f"{converted_sample}/images", "/data/dsb2018/", recursive=True)
        monkeypatch.setenv("DETECTRON2_DATASETS", "memory://data")
        yield "memory://data/dsb2018"
        monkeypatch.undo()
        register_dsb2018()

    def test_a_converted_one(self, memory_store, root, converted_sample):
        register_dsb2018()
        records = DatasetCatalog.get("dsb2018_val")
        assert MetadataCatalog.get("dsb2018_val").image_root == root
        for record in records:
            name = os.path.basename(record["file_name"])
            expected = read_image(converted_sample / "images" / name, "BGR")
            np.testing.assert_array_equal(read_image(record["file_name"], "BGR"), expected)
        NucleiCOCOEvaluator("dsb2018_val")
        memory_store.rm_file(f"/data/dsb2018/images/{name}")
        with pytest.raises(DatasetError, match=f"1 of {len(records)} images are missing.*{name}"):
            DatasetCatalog.get("dsb2018_val")

    def test_folders_with_a_list_are_found(self, memory_store, root, monkeypatch, caplog):
        content = b'{"classes": ["nucleus"], "image_root": "images", "splits": {"all": "a.json"}}'
        memory_store.pipe_file("/data/mine/dataset.json", content)
        register_folders()
        assert MetadataCatalog.get("mine_all").json_file == "memory://data/mine/a.json"
        with pytest.raises(DatasetError, match="There is no file memory://data/mine/a.json"):
            DatasetCatalog.get("mine_all")
        monkeypatch.setenv("DETECTRON2_DATASETS", "nosuch://data")
        register_folders()
        assert "nosuch://data: cannot be reached" in caplog.text


def test_a_record_of_an_evaluation_keeps_addresses(tmp_path):
    truth = "memory://data/val.json"
    EvaluationRecord("val", truth, "found.json", images="memory://data").write(tmp_path)
    record = EvaluationRecord.read(tmp_path)
    assert (record.truth, record.images) == (truth, "memory://data")

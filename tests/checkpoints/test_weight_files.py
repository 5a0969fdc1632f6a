"""Which files of weights are read, that none of them is run, and what a .safetensors file holds."""

import io
import os
import pickle
import tarfile
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from unet_sharp_det.checkpoints.weight_files import (
    read_safetensors_config,
    read_weights,
    write_safetensors,
)
from unet_sharp_det.errors import CheckpointError


class Payload:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path, call=os.mkdir):
        self.call, self.arguments = call, (str(folder),)

    def __reduce__(self):
        return self.call, self.arguments


def torch_zip(path, content):
    torch.save(content, path)


def torch_legacy(path, content):
    torch.save(content, path, _use_new_zipfile_serialization=False)


def zoo_pickle(path, content):
    Path(path).write_bytes(pickle.dumps(content, protocol=2))


WRITERS = [
    ("weights.pth", torch_zip),
    ("legacy.pth", torch_legacy),
    ("weights.pyth", torch_zip),
    ("weights.pt", torch_zip),
    ("R-50.pkl", zoo_pickle),
]


@pytest.mark.parametrize(("name", "write"), WRITERS)
@pytest.mark.parametrize("call", [os.mkdir, os.makedirs, eval, nn.Linear])
def test_what_a_file_wants_to_run_is_named_and_not_run(tmp_path, name, write, call):
    victim = tmp_path / "made_by_payload"
    content = {"model": {"weight": torch.ones(2)}, "extra": Payload(victim, call)}
    if name.endswith(".pkl"):
        content["model"] = {"weight": np.ones(2)}
    write(tmp_path / name, content)
    wanted = rf"{name}' wants to run '[a-z._]*{call.__name__}'.*safetensors.*--trust-pickle"
    with pytest.raises(CheckpointError, match=wanted):
        read_weights(tmp_path / name)
    assert not victim.exists()


@pytest.mark.parametrize(("name", "write"), WRITERS)
def test_a_trusted_file_is_run(tmp_path, name, write):
    victim = tmp_path / "made_by_payload"
    weights = {"model": {"w": torch.ones(2)}, "model_state": {"w": torch.ones(2)}}
    write(tmp_path / name, weights | {"extra": Payload(victim)})
    if name.endswith(".pkl"):
        write(tmp_path / name, {"model": {"w": np.ones(2)}, "__author__": Payload(victim)})
    assert read_weights(tmp_path / name, trust_pickle=True)["model"]["w"].tolist() == [1, 1]
    assert victim.exists()


def globals_pickle(module: str, name: str, *arguments) -> bytes:
    """A pickle that calls ``module.name(*arguments)``, also where Python has no such module."""
    call = f"c{module}\n{name}\n".encode()
    return b"\x80\x02" + call + pickle.dumps(arguments, protocol=2)[2:-1] + b"R."


@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [
        ("numpy", "load", ("file.npy",)),
        ("numpy.core.multiarray", "fromfile", ("file",)),
        ("numpy._core.multiarray", "_reconstruct.__globals__", ()),
        ("numpy", "dtype", ("O",)),
        ("numpy", "dtype", ("V16",)),
        ("_codecs", "encode", ("text", "zlib")),
        ("torch.storage", "_load_from_bytes", (b"",)),
        ("builtins", "getattr", ({}, "pop")),
        ("__builtin__", "eval", ("1",)),
    ],
)
def test_the_zoo_s_pickle_may_build_arrays_only(tmp_path, module, name, arguments):
    path = tmp_path / "R-50.pkl"
    path.write_bytes(globals_pickle(module, name, *arguments))
    with pytest.raises(CheckpointError, match=f"wants to run '.*{name.rpartition('.')[2]}"):
        read_weights(path)


ARRAYS = {
    "float": np.arange(6, dtype="f4").reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big_endian": np.arange(3, dtype=">f4"),
    "strided": np.arange(12, dtype="i8")[::3],
    "empty": np.zeros((0, 4), "f4"),
    "scalar_array": np.array(3.5),
    "scalar": np.float32(2.5),
    "bool": np.array([True, False]),
}


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("numpy_1", [False, True])
def test_arrays_of_the_zoo(tmp_path, protocol, numpy_1):
    content = {"model": OrderedDict(ARRAYS), "__author__": "zoo", "matching_heuristics": True}
    data = pickle.dumps(content, protocol=protocol)
    if numpy_1 and protocol < 4:
        data = data.replace(b"numpy._core", b"numpy.core")
    path = tmp_path / "R-50.pkl"
    path.write_bytes(data)
    read = read_weights(path)
    assert read["__author__"] == "zoo"
    assert read["matching_heuristics"] is True
    for name, expected in ARRAYS.items():
        assert read["model"][name].dtype == expected.dtype.newbyteorder("=")
        np.testing.assert_array_equal(read["model"][name], expected)
    read["model"]["float"] += 1  # what load_state_dict and torch.from_numpy need: writable


def test_pickle_of_python_2(tmp_path):
    array = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    state = b"(I1\n(I1\ntcnumpy\ndtype\n(S'f4'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntbI00\n"
    path = tmp_path / "R-50.pkl"
    path.write_bytes(b"(dS'conv1_w'\n" + array + state + b"S'\\x00\\x00\\x80?'\ntbs.")
    read = read_weights(path)
    assert read["__author__"] == "Caffe2"
    assert read["matching_heuristics"] is True
    np.testing.assert_array_equal(read["model"]["conv1_w"], np.ones(1, "f4"))


def test_layouts_of_other_libraries(tmp_path):
    blobs = {"w": np.ones(2), "w_momentum": np.ones(2)}
    zoo_pickle(tmp_path / "d1.pkl", {"blobs": blobs, "cfg": "text"})
    assert list(read_weights(tmp_path / "d1.pkl")["model"]) == ["w"]
    state = {"w": torch.ones(2), "bn.num_batches_tracked": torch.tensor(3)}
    torch.save({"model_state": state}, tmp_path / "x.pyth")
    read = read_weights(tmp_path / "x.pyth")
    assert list(read["model"]) == ["w"]
    assert read["matching_heuristics"] is True


def nested_tuples() -> bytes:
    """A pickle of 2**60 numbers by 60 pairs of the same tuple."""
    return b"\x80\x02N" + b"2\x86" * 60 + b"."


def tar_file() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("storages"))
    return buffer.getvalue()


def compressed_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(2**22))
    return buffer.getvalue()


def torch_script() -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(nn.ReLU()), buffer)
    return buffer.getvalue()


def long_pickle() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", bytes(2**24 + 1))
    return buffer.getvalue()


def saved(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


LONG_HEADER = (2**40).to_bytes(8, "little") + b"{}"
OUT_OF_FILE = b'{"w":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}'


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.pth", b"", "cannot read"),
        ("a.pth", b"no checkpoint", "cannot read"),
        ("a.pth", saved({"w": torch.ones(9)})[:-300], "cannot read"),
        ("a.pth", tar_file(), "no file of weights .*legacy .tar format"),
        ("a.pth", torch_script(), "no file of weights .*TorchScript archives"),
        ("a.pth", compressed_zip(), "would unpack to 4 MiB"),
        ("a.pth", long_pickle(), "describes its tensors in more than 16 MiB"),
        ("a.pth", saved([1, 2]), "no state dict.*a list"),
        ("a.pth", saved({}), "without entries"),
        ("a.pth", saved({"state_dict": {}}), "'state_dict' is a dict, no tensor"),
        ("a.pth", saved({"model": {"w": 3}}), "'w' is a int"),
        ("a.pyth", saved({"w": torch.ones(2)}), "no state dict"),
        ("a.pkl", b"", "cannot read"),
        ("a.pkl", b"\x80\x02}q", "cannot read"),
        ("a.pkl", nested_tuples(), "no state dict.*a tuple"),
        ("a.pkl", pickle.dumps([np.ones(2)]), "no state dict.*a list"),
        ("a.safetensors", b"", "cannot read"),
        ("a.safetensors", LONG_HEADER, "cannot read"),
        ("a.safetensors", b"\x08" + bytes(7) + b"no json!", "cannot read"),
        ("a.safetensors", len(OUT_OF_FILE).to_bytes(8, "little") + OUT_OF_FILE, "cannot read"),
    ],
)
def test_damaged_files(tmp_path, name, data, message):
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=message) as raised:
        read_weights(path)
    assert name in str(raised.value)
    assert "\n" not in str(raised.value)
    if name.endswith(".safetensors"):
        with pytest.raises(CheckpointError, match=message):
            read_safetensors_config(path)


@pytest.mark.parametrize("name", ["a.pth", "a.pkl", "a.safetensors"])
def test_missing_files(tmp_path, name):
    with pytest.raises(CheckpointError, match="there is no file"):
        read_weights(tmp_path / name)


def test_every_cut_of_a_file_is_an_error_of_the_user(tmp_path):
    tensors = {"w": torch.ones(64), "b": torch.ones(3)}
    torch.save(tensors, tmp_path / "whole.pth")
    write_safetensors(tmp_path / "whole.safetensors", tensors, "A: 1")
    zoo_pickle(tmp_path / "whole.pkl", {name: value.numpy() for name, value in tensors.items()})
    for path in sorted(tmp_path.glob("whole.*")):
        data = path.read_bytes()
        for cut in range(0, len(data), max(1, len(data) // 40)):
            (tmp_path / f"cut{path.suffix}").write_bytes(data[:cut])
            with pytest.raises(CheckpointError, match="cannot read"):
                read_weights(tmp_path / f"cut{path.suffix}")


class TestSafetensors:
    @pytest.fixture
    def tensors(self):
        shared = torch.rand(4, 6)
        return {
            "a": shared,
            "b": shared,
            "view": shared[1:, ::2],
            "count": torch.tensor(7),
            "large": torch.tensor([1.0, 1e6]),
            "empty": torch.zeros(0, 3),
        }

    def test_round_trip(self, tmp_path, tensors):
        path = tmp_path / "new" / "a.safetensors"
        write_safetensors(path, tensors, "MODEL:\n  DEVICE: cpu\n")
        assert read_safetensors_config(path) == "MODEL:\n  DEVICE: cpu\n"
        read = read_weights(path)["model"]
        assert set(read) == set(tensors)
        assert all(torch.equal(read[name], tensors[name]) for name in tensors)

    def test_without_a_config(self, tmp_path):
        write_safetensors(tmp_path / "a.safetensors", {"w": torch.ones(2)})
        assert read_safetensors_config(tmp_path / "a.safetensors") is None

    def test_half_precision_keeps_what_does_not_fit(self, tmp_path, tensors):
        path = tmp_path / "a.safetensors"
        write_safetensors(path, tensors, "", half=True)
        read = read_weights(path)["model"]
        assert read["a"].dtype == torch.float16
        assert torch.equal(read["large"], tensors["large"])
        assert torch.equal(read["count"], tensors["count"])
        torch.testing.assert_close(read["view"].float(), tensors["view"], atol=5e-4, rtol=0)

    def test_an_interrupted_write_leaves_the_old_file(self, tmp_path, monkeypatch):
        path = tmp_path / "a.safetensors"
        path.write_bytes(b"old")

        def fail(tensors, path, metadata):
            Path(path).write_bytes(b"half")
            raise KeyboardInterrupt

        monkeypatch.setattr("unet_sharp_det.checkpoints.weight_files.save_file", fail)
        with pytest.raises(KeyboardInterrupt):
            write_safetensors(path, {"w": torch.ones(2)})
        assert path.read_bytes() == b"old"
        assert len(list(tmp_path.iterdir())) == 1

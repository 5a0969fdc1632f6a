"""What holds for every output: names, atomicity, objects that do not fit, no object at all."""

import sys

import pytest
from run_files import content_of

from unet_sharp_det.errors import UserError
from unet_sharp_det.masks.instances import SparseInstances
from unet_sharp_det.outputs import (
    OUTPUTS,
    OutputContext,
    label_image,
    output_paths,
    write_outputs,
)


def test_all_outputs_have_the_stem_and_repeat_byte_for_byte(instances, context, tmp_path):
    paths = write_outputs(instances, context, tmp_path / "deep" / "slide 1.v2", list(OUTPUTS))
    assert [path.name for path in paths] == [
        f"slide 1.v2{output.ending}" for output in OUTPUTS.values()
    ]
    assert sorted(paths) == sorted((tmp_path / "deep").iterdir())
    again = write_outputs(instances, context, tmp_path / "again", list(OUTPUTS))
    for first, second in zip(paths, again, strict=True):
        assert content_of(first) == content_of(second)


def test_an_output_whose_package_is_missing_is_refused_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert [OUTPUTS[name].is_available for name in ("parquet", "table")] == [False, True]
    with pytest.raises(UserError, match=r"'parquet' takes.*install 'unet_sharp_det\[parquet\]'"):
        output_paths(tmp_path / "a", ["table", "parquet"])


def test_an_image_without_objects_has_every_output(context, tmp_path):
    empty = SparseInstances.empty(context.source.shape)
    for path in write_outputs(empty, context, tmp_path / "a", list(OUTPUTS)):
        assert path.stat().st_size > 0


def test_a_wrong_name_writes_nothing(instances, context, tmp_path):
    with pytest.raises(UserError, match=r"Did you mean 'geojson'\?"):
        write_outputs(instances, context, tmp_path / "a", ["labels", "geo-json"])
    assert not list(tmp_path.iterdir())


def test_objects_of_a_class_without_a_name_are_refused(instances, context, tmp_path):
    unnamed = OutputContext(context.source, ("nucleus",))
    with pytest.raises(UserError, match="object of class 1 .* nucleus"):
        write_outputs(instances, unnamed, tmp_path / "a", ["coco"])
    assert not list(tmp_path.iterdir())


def test_a_folder_that_fails_leaves_the_old_one(instances, context, tmp_path, monkeypatch):
    (old,) = write_outputs(instances, context, tmp_path / "a", ["zarr"])
    (old / "of the old one").touch()
    before = content_of(old)

    def fail(instances, context, path):
        (path / "half").touch()
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(label_image, "write_zarr", fail)
        with pytest.raises(MemoryError):
            write_outputs(instances, context, tmp_path / "a", ["zarr"])
    assert list(tmp_path.iterdir()) == [old]
    assert content_of(old) == before
    write_outputs(instances, context, tmp_path / "a", ["zarr"])
    assert list(tmp_path.iterdir()) == [old]
    assert not (old / "of the old one").exists()

"""Finding and reading back the values of each image."""

import pytest

from unet_sharp_det.errors import UserError
from unet_sharp_det.evaluation.readers.run_results import RunResults


def write(folder, rows, name="semantic_per_image.csv"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(rows)


def test_a_run_with_several_data_sets(tmp_path):
    write(tmp_path / "inference" / "val", "image_id,channel,IoU\n1,a,10\n")
    with pytest.raises(UserError, match="neither semantic_per_image.csv nor"):
        RunResults.find(tmp_path)
    write(tmp_path / "inference", "image_id,channel,IoU\n1,a,20\n")
    assert RunResults.find(tmp_path, dataset="val").values() == {"1": 10}
    assert RunResults.find(tmp_path, dataset="test").values() == {"1": 20}
    assert RunResults.find(tmp_path).values() == {"1": 20}


def test_semantic_values_before_those_of_instances(tmp_path):
    write(tmp_path / "inference", "image_id,IoU,Dice\n1,20,30\n", "instances_per_image.csv")
    instances = RunResults.find(tmp_path)
    assert not instances.is_semantic
    assert instances.values("Dice") == {"1": 30}
    assert instances.label == tmp_path.name
    write(tmp_path / "inference", "image_id,channel,IoU\n1,a,10\n")
    assert RunResults.find(tmp_path).values() == {"1": 10}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("image_id,channel,Dice\n1,a,3\n", r"lacks the columns \['IoU'\]"),
        ("image_id,channel,IoU\n", "no image was evaluated"),
        ("image_id,channel,IoU\n1,a,x\n", "IoU of image 1 is no number, but 'x'"),
    ],
)
def test_malformed_file(tmp_path, content, message):
    write(tmp_path / "inference", content)
    with pytest.raises(UserError, match=f"semantic_per_image.csv.*{message}.*--eval-only"):
        RunResults.find(tmp_path).values()

"""Views of an image, and the mean of what is found in them."""

import numpy as np
import pytest
import torch
from prediction_models import half_foreground_model

from unet_sharp_det.checkpoints.trained_model import build_on_meta, open_trained_model
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.data.augmentation import ScaleBy
from unet_sharp_det.errors import ConfigError
from unet_sharp_det.images.decoding import read_image
from unet_sharp_det.masks.instances import SparseInstances
from unet_sharp_det.modeling.test_time_augmentation import VIEWS, AveragedViews, average
from unet_sharp_det.prediction import PredictionOptions, Predictor


@pytest.fixture
def labels():
    """Two objects without any symmetry in an image that is not square."""
    labels = np.zeros((9, 14), int)
    labels[1:3, 2:7] = labels[3, 2] = 1
    labels[5:8, 9:11] = labels[7, 11:13] = 2
    return labels


@pytest.mark.parametrize("view", VIEWS)
def test_what_is_found_in_a_view_lies_where_it_is(view, labels):
    seen = view.apply(labels)
    assert np.array_equal(view.undo(seen), labels)
    found = view.undo_objects(SparseInstances.from_label_map(seen))
    assert found.shape == labels.shape
    assert np.array_equal(found.label_map(), labels)


def test_the_views_differ(labels):
    assert len({view.apply(labels).tobytes() for view in VIEWS}) == 8


def test_pixels_by_the_majority_and_scores_by_the_mean(labels):
    one = SparseInstances.from_label_map(labels, [0.9, 0.6])
    larger = labels.copy()
    larger[4, 2] = 1
    views = [one, SparseInstances.from_label_map(np.where(larger == 1, 1, 0), [0.8])] + [one] * 2
    found = average(views)
    assert np.array_equal(found.label_map(), labels)
    assert found.scores == pytest.approx([(0.9 + 0.8 + 0.9 + 0.9) / 4, 0.6 * 3 / 4])


def test_objects_of_one_view_stay_apart(labels):
    touching = np.where(labels == 2, 0, labels)
    touching[1:3, 2:4] = 2
    parted = SparseInstances.from_label_map(touching, [0.9, 0.8])
    found = average([parted, parted])
    assert len(found) == 2
    assert found.scores == pytest.approx([0.9, 0.8])


def test_nothing_found():
    assert len(average([SparseInstances.empty((3, 4))] * 8)) == 0


@pytest.fixture(scope="module")
def image(converted_sample):
    """An image of nuclei that is not square."""
    path = min((converted_sample / "images").glob("*.png"))
    return read_image(path, "RGB")[:128, :160]


def change_by_turning(find, image) -> float:
    """The share of pixels that are found in an image or in the turned one, but not in both."""
    straight, turned = find(image), VIEWS[5].undo(find(VIEWS[5].apply(image)))
    assert straight.any()
    return np.mean(straight != turned)


@pytest.mark.parametrize("name", ["nuclei", "semantic"])
def test_a_turned_image_gives_turned_objects(name, image):
    """By a model that sees another image otherwise, as is shown without test-time augmentation."""

    def change(tta):
        options = PredictionOptions(tta=tta)
        if name == "nuclei":
            predict = Predictor.from_checkpoint("nuclei", device="cpu", options=options)
        else:
            predict = Predictor(half_foreground_model(image), ScaleBy([1.0]), options=options)
        return change_by_turning(lambda seen: predict(seen).label_map() > 0, image)

    assert change(tta=True) < min(1e-3, change(tta=False))


@pytest.mark.parametrize("name", ["nuclei", "nuclei-fast", "semantic"])
def test_a_model_in_an_evaluation_finds_turned_objects_in_a_turned_image(name, image):
    if name == "semantic":
        model = half_foreground_model(image)
    else:
        model = open_trained_model(name, device="cpu").model

    def change(model):
        def foreground(seen):
            pixels = torch.from_numpy(seen.transpose(2, 0, 1).copy())
            size = dict(zip(("height", "width"), seen.shape[:2], strict=True))
            with torch.no_grad():
                (output,) = model([{"image": pixels, **size}])
            if name == "semantic":
                return output["sem_seg"][0].numpy() > 0.5
            found = output["instances"]
            found = SparseInstances.from_instances(found[found.scores > 0.5])
            return found.label_map() > 0

        return change_by_turning(foreground, image)

    assert change(AveragedViews(model)) < min(1e-3, change(model))


def test_a_record_need_not_say_the_size_of_its_image():
    image = torch.randint(0, 256, (3, 20, 31), dtype=torch.uint8)
    model = AveragedViews(half_foreground_model(image.permute(1, 2, 0).numpy()))
    with torch.no_grad():
        (output,) = model([{"image": image}])
    assert output["sem_seg"].shape == (1, 20, 31)


@pytest.mark.parametrize(
    ("model", "options"),
    [("panoptic_fpn", []), ("mask_rcnn", ["MODEL.MASK_ON", "False"]), ("retinanet_R_50", [])],
)
def test_what_is_found_without_masks_or_beside_them_has_no_mean(repository, model, options):
    (config,) = (repository / "configs" / "quick_schedules").glob(f"{model}*_unetsharp_*.yaml")
    with pytest.raises(ConfigError, match=r"TEST\.AUG is for Mask R-CNN .* not for this "):
        AveragedViews(build_on_meta(setup_cfg(str(config), options)))

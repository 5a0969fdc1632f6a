"""What the documents list is what there is."""

import re

from unet_sharp_det.evaluation.evaluators.volumes import VOLUME_MEASURES
from unet_sharp_det.evaluation.instances.measures import INSTANCE_MEASURES


def test_every_measure_is_in_the_list(repository):
    text = (repository / "docs" / "MEASURES.md").read_text()
    listed = set(re.findall(r"`(?:\w+/)?(\w+)`", text))
    for measure in INSTANCE_MEASURES + VOLUME_MEASURES:  # These begin with the foreground's.
        name = measure.name.removesuffix("_image_mean").removesuffix("_pooled")
        if not re.fullmatch(r"cell_AP\d\d|Dice_two_class", name):  # the table has ... for them
            assert name in listed, name

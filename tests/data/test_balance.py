"""Images of rare looks are repeated by a power of how rare they are."""

from collections import Counter

import cv2
import numpy as np
import pytest

from unet_sharp_det.data.balance import repeat_rare_looks
from unet_sharp_det.errors import ConfigError

LOOKS = {"fluorescence": 36, "histology": 9, "bright-field": 1}
RECORDS = [{"file_name": "", "look": look} for look, count in LOOKS.items() for _ in range(count)]


@pytest.mark.parametrize(
    ("power", "drawn"), [(0, [36, 9, 1]), (0.5, [36, 18, 6]), (1, [36, 36, 36])]
)
def test_shares_by_power(power, drawn):
    found = Counter(each["look"] for each in repeat_rare_looks(RECORDS, power))
    assert list(found.values()) == drawn


def test_a_look_that_is_not_told_is_seen(tmp_path):
    for name, value in (("dark.png", 10), ("dark2.png", 10), ("bright.png", 240)):
        cv2.imwrite(str(tmp_path / name), np.full((8, 8), value, np.uint8))
    records = [{"file_name": str(path)} for path in sorted(tmp_path.iterdir())]
    names = [each["file_name"][-10:] for each in repeat_rare_looks(records, 1)]
    assert len(names) == 4
    assert sum("bright" in name for name in names) == 2


def test_a_power_that_is_none():
    with pytest.raises(ConfigError, match="must lie in 0..1"):
        repeat_rare_looks(RECORDS, 1.5)

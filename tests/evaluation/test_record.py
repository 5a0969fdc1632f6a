"""Options out of their range, and records that somebody edited."""

import json
import math
from types import SimpleNamespace

import pytest

from unet_sharp_det.errors import ConfigError, UserError
from unet_sharp_det.evaluation.record import EvaluationOptions, EvaluationRecord

RECORD = {"dataset": "a", "truth": "t.json", "predictions": "p.json"}


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("score_threshold", [math.nan, -math.inf, "0.5", None]),
        ("min_area", [-1, 1.5, "3", None]),
        ("max_covered", [-0.1, 1.1, math.nan, "1", None]),
        ("boundary_tolerance", [-1, 100.5, math.inf, math.nan, "2"]),
        ("max_dets", [0, 1.5, "9", 2**31]),
        ("area_sides", [(96, 32), (32,), (0, 32), (32, 32), (1, math.inf), ("a", "b"), "ab"]),
    ],
)
def test_options_out_of_range(name, bad):
    for value in bad:
        with pytest.raises(ConfigError, match=f"^{name}.* must .*, not "):
            EvaluationOptions(**{name: value})


def test_the_ends_of_the_ranges():
    for tolerance in (0, 100):
        options = EvaluationOptions(-7.5, 0, tolerance / 100, tolerance, 1, (0.5, 99_999))
        assert options.score_threshold == -7.5


def test_the_error_of_a_config_names_its_keys():
    instances = SimpleNamespace(
        SCORE_THRESHOLD=0.5, MIN_AREA=0, MAX_COVERED=1.0, BOUNDARY_TOLERANCE=2.0
    )
    test = SimpleNamespace(INSTANCES=instances, DETECTIONS_PER_IMAGE=0, AREA_SIDES=[32, 96])
    with pytest.raises(ConfigError, match="max_dets.* not 0.*TEST.DETECTIONS_PER_IMAGE"):
        EvaluationOptions.from_config(SimpleNamespace(TEST=test))


@pytest.mark.parametrize(
    ("changes", "options"),
    [
        ({"truth": None}, {}),
        ({"images": 5}, {}),
        ({"suffix": 5}, {}),
        ({"predictions": 5}, {}),
        ({"allow_missing": "no"}, {}),
        ({}, {"max_dets": "9"}),
        ({}, {"area_sides": "ab"}),
        ({}, {"area_sides": 5}),
        ({}, {"min_area": None}),
    ],
)
def test_records_with_values_of_other_types(changes, options, tmp_path):
    def write(changes, options):
        content = {**RECORD, "options": {"area_sides": [32, 96], **options}, **changes}
        (tmp_path / "evaluation.json").write_text(json.dumps(content))

    write({}, {"max_covered": 0.25})
    assert EvaluationRecord.read(tmp_path).options == EvaluationOptions(max_covered=0.25)
    write(changes, options)
    with pytest.raises(UserError, match="evaluation.json: is no record of an evaluation"):
        EvaluationRecord.read(tmp_path)

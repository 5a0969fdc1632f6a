"""Judge the predictions of any tool by the measures of this package's evaluators.

unet-sharp-det evaluate --predictions P --truth T --output DIR

P  a list of COCO results, a COCO data set (scores if its annotations have any), a
   semantic_predictions.json (4-connected components are the objects), or a folder of label maps
   (.png of 8 or 16 bits, .tif, .npy, of volumes .nii.gz, .nii, .mha, .nrrd or .tif of several
   pages: 0 the background, each object a number)
T  a COCO data set, or a folder of label maps
DIR  gets instances_per_image.csv, instance_metrics.json and evaluation.json, which unet-sharp-det
   report reads; and, of predictions with scores, metrics.json and ap_table.md

Label maps are paired by the stem of the image's file name; endings such as _cp_masks, _masks,
_labels and _objects are taken off. Of volumes, pixels are voxels.
"""

import argparse
import logging
from dataclasses import fields
from pathlib import Path

from ..batch.inputs import RECORDS
from ..evaluation.record import AP_SAMPLES, SAMPLES, EvaluationOptions
from ..files import read_json
from . import command_parser


def parse_args(argv=None) -> argparse.Namespace:
    parser = command_parser("evaluate", __doc__)
    add = parser.add_argument
    add("--predictions", required=True, metavar="P", help="file or folder")
    add("--truth", required=True, metavar="T", help="file or folder")
    add("--output", required=True, metavar="DIR", help="folder for the results")
    add("--images", metavar="DIR", help="folder of the images, for unet-sharp-det report")
    add("--dataset", metavar="NAME", help="what reports call the data (default: T's name)")
    add("--suffix", help="what follows the image's stem in names of P's label maps, e.g. _cp_masks")
    add("--truth-suffix", metavar="SUFFIX", help="the same for T")
    add("--allow-missing", action="store_true", help="count missing predictions as empty")
    defaults = EvaluationOptions()
    help_ = "least score (default: that of predict, of results of predict, else 0.5)"
    add("--score-threshold", type=float, help=help_)
    add("--min-area", type=int, default=defaults.min_area, help="least pixels of an object")
    covered = "largest share of an object that objects of higher scores may cover"
    add("--max-covered", type=float, default=defaults.max_covered, metavar="SHARE", help=covered)
    tolerance = defaults.boundary_tolerance
    add("--boundary-tolerance", type=float, default=tolerance, help="of boundary_F1, in pixels")
    add("--max-dets", type=int, default=defaults.max_dets, help="detections per image, for AP")
    sides = {"nargs": 2, "type": float, "default": defaults.area_sides, "metavar": "SIDE"}
    add("--area-sides", **sides, help="in pixels; part small | medium | large, for AP")
    add("--samples", type=int, default=SAMPLES, help="bootstrap samples of the intervals")
    add("--ap-samples", type=int, default=AP_SAMPLES, help="the same for AP, which takes longer")
    return parser.parse_args(argv)


def main(argv=None) -> int:
    args = vars(parse_args(argv))
    from ..evaluation.evaluate_files import evaluate_files  # Slow to import.

    if args["score_threshold"] is None:
        args["score_threshold"] = threshold_of(args["predictions"])
    for folder, suffix in (("predictions", "suffix"), ("truth", "truth_suffix")):
        if args[suffix] is None and (Path(args[folder]) / RECORDS).is_file():
            args[suffix] = "_labels"  # A folder of predict has pictures and tables, too.
    args["area_sides"] = tuple(args["area_sides"])
    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.INFO)
    options = {field.name: args.pop(field.name) for field in fields(EvaluationOptions)}
    print(evaluate_files(**args, options=EvaluationOptions(**options)))
    return 0


def threshold_of(predictions) -> float:
    """Return the least score that predict had for its coco.json, else that of the defaults."""
    path = Path(predictions).parent / "predict.json"
    default = EvaluationOptions().score_threshold
    if Path(predictions).name != "coco.json" or not path.is_file():
        return default
    return read_json(path, dict).get("settings", {}).get("score_threshold", default)

"""Which proposals of a Mask R-CNN are looked at in prediction: many in crowds, few elsewhere."""

import functools
import math
from collections.abc import Callable

from detectron2.layers import batched_nms
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads import CascadeROIHeads
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers, fast_rcnn_inference
from detectron2.structures import Instances
from torch import Tensor, nn

#: Pixels of the network's input for which the config's limits of proposals and detections hold.
#: They grow with the area: else a large window gets fewer proposals for an object than a tile.
_LIMITS_AREA = 512 * 512
#: In larger inputs so many times more proposals pass non-maximum suppression, because nuclei are
#: dense in one place and few in another: a crowd gets as many in a large window as in a tile.
_SPARE_PROPOSALS = 4
#: Logit of the objectness (a probability of 12 %) from which on proposals are looked at: a tenth of
#: them, from which the same objects come (MODEL_ZOO.md).
_LEAST_OBJECTNESS = -2.0
#: A Cascade looks again at boxes whose first score is at least this, and of those that share more
#: than this IoU at the best: a third of them, from which the same objects come (MODEL_ZOO.md).
_LEAST_FIRST_SCORE, _MOST_FIRST_IOU = 0.1, 0.7


def parts_of(model: nn.Module, kind: type) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, kind)]


def choose_proposals(model: nn.Module) -> Callable[[int], None]:
    """Let a model look at those proposals only that may become objects.

    Args:
        model: a detectron2 model in eval mode; it is changed. Proposals that are background by the
            RPN, and in a ``CascadeROIHeads`` by the first stage, are left out.

    Returns:
        what sets the numbers of proposals and detections for inputs of some pixels.
    """
    for rpn in parts_of(model, RPN):
        rpn.rpn_head.register_forward_hook(_leave_out_background)
    for heads in parts_of(model, CascadeROIHeads):
        if type(heads) is CascadeROIHeads:
            heads._forward_box = functools.partial(_find_boxes, heads)
    return _limits_of(model)


def _limits_of(model: nn.Module) -> Callable[[int], None]:
    rpns = [(m, m.pre_nms_topk[False], m.post_nms_topk[False]) for m in parts_of(model, RPN)]
    heads = [(m, m.test_topk_per_image) for m in parts_of(model, FastRCNNOutputLayers)]

    def adapt(area: int) -> None:
        factor = max(1.0, area / _LIMITS_AREA)
        spare = _SPARE_PROPOSALS if factor > 1 else 1
        for rpn, before, after in rpns:
            rpn.pre_nms_topk[False] = math.ceil(factor * before)
            rpn.post_nms_topk[False] = math.ceil(spare * factor * after)
        for head, detections in heads:
            head.test_topk_per_image = math.ceil(factor * detections)

    return adapt


def _leave_out_background(_, inputs: tuple, outputs: tuple) -> tuple:
    """Let detectron2 drop proposals, as it does of scores that are not finite, before its NMS."""
    logits, deltas = outputs
    return [each.masked_fill(each < _LEAST_OBJECTNESS, -math.inf) for each in logits], deltas


def _find_boxes(
    heads: CascadeROIHeads, features: dict[str, Tensor], proposals: list[Instances]
) -> list[Instances]:
    """Do as ``CascadeROIHeads._forward_box`` in eval mode, with fewer boxes after its first stage.

    Their scores are the mean over all stages (Cascade R-CNN, Sec. 4.1).
    """
    maps = [features[name] for name in heads.box_in_features]
    sizes = [each.image_size for each in proposals]
    sums = [0.0] * len(proposals)
    for stage, predictor in enumerate(heads.box_predictor):
        predictions = heads._run_stage(maps, proposals, stage)
        boxes = predictor.predict_boxes(predictions, proposals)
        scores = predictor.predict_probs(predictions, proposals)
        sums = [total + each for total, each in zip(sums, scores, strict=True)]
        if stage == 0:
            kept = [_worth_a_second_look(*each) for each in zip(boxes, scores, strict=True)]
            boxes = [each[index] for each, index in zip(boxes, kept, strict=True)]
            sums = [each[index] for each, index in zip(sums, kept, strict=True)]
        proposals = heads._create_proposals_from_boxes(boxes, sizes)
    return fast_rcnn_inference(
        boxes,
        [total / heads.num_cascade_stages for total in sums],
        sizes,
        predictor.test_score_thresh,
        predictor.test_nms_thresh,
        predictor.test_topk_per_image,
    )[0]


def _worth_a_second_look(boxes: Tensor, scores: Tensor) -> Tensor:
    """Return the indices of (N, 4) boxes with (N, classes and background) scores."""
    best, classes = scores[:, :-1].max(dim=1)
    likely = (best >= _LEAST_FIRST_SCORE).nonzero()[:, 0]
    kept = batched_nms(boxes[likely], best[likely], classes[likely], _MOST_FIRST_IOU)
    return likely[kept]

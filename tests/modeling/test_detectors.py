"""The necks in detectron2's detectors: one training step and one inference of each pair."""

import pytest
import torch
from detectron2 import model_zoo
from detectron2.export import scripting_with_instances
from detectron2.modeling import build_model
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes
from detectron2.utils.events import EventStorage
from detectron2.utils.testing import convert_scripted_instances
from nuclei_records import nuclei_record as image

from unet_sharp_det import SkipFPN
from unet_sharp_det.config import setup_cfg
from unet_sharp_det.skip_schemes import scheme_names

TINY = [
    *("MODEL.DEVICE", "cpu"),
    *("MODEL.BACKBONE.NAME", "build_skip_fpn_backbone", "MODEL.BACKBONE.FREEZE_AT", "0"),
    *("MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"),
    *("MODEL.RESNETS.NORM", "BN", "MODEL.FPN.OUT_CHANNELS", "32"),
    *("MODEL.FPN.NODE_CHANNELS", "0"),
    *("MODEL.ROI_HEADS.NUM_CLASSES", "1", "MODEL.RETINANET.NUM_CLASSES", "1"),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "16"),
    *("MODEL.RPN.POST_NMS_TOPK_TRAIN", "50", "MODEL.RPN.POST_NMS_TOPK_TEST", "50"),
]
RES2_TO_5 = "['res2', 'res3', 'res4', 'res5']"
RCNN = [
    *("MODEL.RESNETS.OUT_FEATURES", RES2_TO_5, "MODEL.FPN.IN_FEATURES", RES2_TO_5),
    *("MODEL.ANCHOR_GENERATOR.SIZES", "[[12], [24], [48], [96], [192]]"),
    *("MODEL.RPN.IN_FEATURES", "['p2', 'p3', 'p4', 'p5', 'p6']"),
    *("MODEL.ROI_HEADS.IN_FEATURES", "['p2', 'p3', 'p4', 'p5']"),
    *("MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead", "MODEL.ROI_BOX_HEAD.NUM_FC", "1"),
    *("MODEL.ROI_BOX_HEAD.FC_DIM", "32", "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", "7"),
    *("MODEL.ROI_MASK_HEAD.NAME", "MaskRCNNConvUpsampleHead", "MODEL.MASK_ON", "True"),
    *("MODEL.ROI_MASK_HEAD.CONV_DIM", "16", "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION", "14"),
]
DETECTORS = {
    "mask_rcnn": [*RCNN, "MODEL.ROI_HEADS.NAME", "StandardROIHeads"],
    "cascade_mask_rcnn": [
        *RCNN,
        *("MODEL.ROI_HEADS.NAME", "CascadeROIHeads"),
        *("MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "True"),
    ],
    "panoptic_fpn": [
        *RCNN,
        *("MODEL.ROI_HEADS.NAME", "StandardROIHeads"),
        *("MODEL.META_ARCHITECTURE", "PanopticFPN", "MODEL.SEM_SEG_HEAD.NUM_CLASSES", "2"),
        *("MODEL.SEM_SEG_HEAD.CONVS_DIM", "16", "MODEL.SEM_SEG_HEAD.NORM", ""),
    ],
    "retinanet": [
        *("MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.FPN.TOP_BLOCK", "p6p7"),
        *("MODEL.RESNETS.OUT_FEATURES", "['res3', 'res4', 'res5']"),
        *("MODEL.FPN.IN_FEATURES", "['res3', 'res4', 'res5']"),
        *("MODEL.ANCHOR_GENERATOR.SIZES", "[[16], [32], [64], [128], [256]]"),
        *("MODEL.RETINANET.IN_FEATURES", "['p3', 'p4', 'p5', 'p6', 'p7']"),
        *("MODEL.RETINANET.NUM_CONVS", "1"),
    ],
}


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize("scheme", scheme_names())
def test_one_step_and_one_inference(scheme, detector):
    torch.manual_seed(0)
    cfg = setup_cfg("", [*TINY, *DETECTORS[detector], "MODEL.FPN.SKIP_SCHEME", scheme])
    model = build_model(cfg).train()
    with EventStorage():
        losses = model([image(0), image(1, nuclei=0)])
    assert all(loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    neck = {n: p for n, p in model.backbone.named_parameters() if not n.startswith("bottom_up")}
    assert [name for name, p in neck.items() if p.grad is None] == []
    assert sum(p.grad.abs().sum() for p in neck.values()) > 0

    with torch.no_grad():
        output = model.eval()([image(2)])[0]
    assert output["instances"].image_size == (70, 90)
    if "rcnn" in detector:
        assert output["instances"].pred_masks.shape[1:] == (70, 90)
    if detector == "panoptic_fpn":
        assert output["sem_seg"].shape == (2, 70, 90)


BOXES = {"pred_boxes": Boxes, "scores": torch.Tensor, "pred_classes": torch.Tensor}
SCRIPTED_FIELDS = {
    "retinanet": BOXES,
    "mask_rcnn": {
        **{"proposal_boxes": Boxes, "objectness_logits": torch.Tensor},
        **{**BOXES, "pred_masks": torch.Tensor},
    },
}


@pytest.mark.parametrize("detector", SCRIPTED_FIELDS)
def test_torchscript(detector):
    """As detectron2's own tests script its detectors; the necks' contract has every scheme."""
    torch.manual_seed(0)
    threshold = f"MODEL.{'RETINANET' if detector == 'retinanet' else 'ROI_HEADS'}.SCORE_THRESH_TEST"
    options = [*TINY, *DETECTORS[detector], threshold, "0.0", "MODEL.FPN.SKIP_SCHEME", "unetsharp"]
    model = build_model(setup_cfg("", options)).eval()
    batch = [{"image": image(2)["image"]}]
    with torch.no_grad():
        expected = model(batch)[0]["instances"]
        scripted = scripting_with_instances(model, SCRIPTED_FIELDS[detector])
        if detector == "mask_rcnn":
            found = scripted.inference(batch, do_postprocess=False)[0]
        else:
            found = scripted(batch)[0]
    found = detector_postprocess(convert_scripted_instances(found), 70, 90)
    assert len(found) > 0
    assert torch.equal(found.scores, expected.scores)
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    if detector == "mask_rcnn":
        assert torch.equal(found.pred_masks, expected.pred_masks)


@pytest.mark.parametrize(
    ("file", "top_block"),
    [
        ("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml", "maxpool"),
        ("COCO-Detection/retinanet_R_50_FPN_1x.yaml", "p6p7"),
        ("COCO-PanopticSegmentation/panoptic_fpn_R_50_1x.yaml", "maxpool"),
        ("Misc/cascade_mask_rcnn_R_50_FPN_1x.yaml", "maxpool"),
    ],
)
def test_two_keys_change_detectron2_s_own_configs(file, top_block):
    cfg = setup_cfg(model_zoo.get_config_file(file))
    cfg.MODEL.BACKBONE.NAME = "build_skip_fpn_backbone"
    cfg.MODEL.FPN.SKIP_SCHEME = "unetsharp"
    cfg.MODEL.FPN.TOP_BLOCK = top_block
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg)
    assert isinstance(model.backbone, SkipFPN)
    assert model.backbone.scheme == "unetsharp"

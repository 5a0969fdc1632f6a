"""What exported files say about models that need no data to be built."""

import pytest
from detectron2 import model_zoo

from unet_sharp_det.config import add_unet_sharp_config
from unet_sharp_det.export.metadata import describe


@pytest.mark.parametrize(
    ("backbone", "scheme"),
    [("build_skip_fpn_backbone", "unetpp"), ("build_resnet_fpn_backbone", None)],
)
def test_a_scheme_is_named_where_there_is_one(backbone, scheme):
    cfg = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml")
    add_unet_sharp_config(cfg)
    cfg.MODEL.BACKBONE.NAME, cfg.MODEL.FPN.SKIP_SCHEME = backbone, "unetpp"
    assert describe(cfg, "fp32", None).get("scheme") == scheme

"""The keys that this package adds to detectron2's config, each with its meaning and unit."""

from detectron2.config import CfgNode


def add_unet_sharp_config(cfg: CfgNode) -> None:
    """Add the keys of unet_sharp_det to ``cfg`` (in place). No key of detectron2 is changed."""
    _add_neck(cfg)
    _add_timm(cfg)
    _add_input(cfg)
    _add_training(cfg)


def _add_neck(cfg: CfgNode) -> None:
    fpn = cfg.MODEL.FPN
    # Skip scheme of the neck: fpn | unetpp | unet3p | unetsharp, or the quoted aliases
    # "++" | "+++" | "#". (Unquoted, YAML reads # as a comment.)
    fpn.SKIP_SCHEME = "unetsharp"
    # Registered name of the bottom-up that build_skip_fpn_backbone puts the neck on: any
    # backbone whose MODEL.FPN.IN_FEATURES have strides that double.
    fpn.BOTTOM_UP = "build_resnet_backbone"
    # Levels above the last one: maxpool (p6, for Mask R-CNN) | p6p7 (for RetinaNet) | none.
    fpn.TOP_BLOCK = "maxpool"
    # Channels of every inner node. 0: the scheme's own width (see modeling/skip_fpn.py).
    fpn.NODE_CHANNELS = 0
    # Channels that a convolved skip edge carries. 0: the scheme's own width.
    fpn.EDGE_CHANNELS = 0
    # Order of convolution and upsampling on a convolved edge: conv_up (at the source's
    # resolution, cheap) | up_conv (as the papers' equations read, at the target's).
    fpn.EDGE_ORDER = "conv_up"
    # How a node joins its inputs: cat | add (by MODEL.FPN.FUSE_TYPE) | auto (the scheme's own).
    fpn.SKIP_FUSE = "auto"


def _add_timm(cfg: CfgNode) -> None:
    cfg.MODEL.TIMM = CfgNode()
    # Name of the timm architecture that build_timm_backbone builds.
    cfg.MODEL.TIMM.NAME = "tf_efficientnet_lite0"
    # Features to return, of res1 (stride 2) .. res5 (stride 32).
    cfg.MODEL.TIMM.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    # FrozenBN: batch statistics stay as loaded | BN: they train | SyncBN | GN.
    cfg.MODEL.TIMM.NORM = "FrozenBN"


def _add_input(cfg: CfgNode) -> None:
    # Factors to resize a training image by, one drawn per image, instead of to
    # INPUT.MIN_SIZE_TRAIN; a longer side than INPUT.MAX_SIZE_TRAIN is cut down to it. []: by
    # INPUT.MIN_SIZE_TRAIN. Microscopes have a scale: factors keep it, fixed sizes do not.
    cfg.INPUT.SCALE_TRAIN = []
    # Factor to resize test images by (up to INPUT.MAX_SIZE_TEST). 0: by INPUT.MIN_SIZE_TEST.
    cfg.INPUT.SCALE_TEST = 0.0
    # INPUT.RANDOM_FLIP also takes "both" (horizontal and vertical, each with probability .5).
    # Rotate by 0, 90, 180 or 270 degrees with equal probability: cells have no upright side.
    cfg.INPUT.RANDOM_ROTATE90 = False
    cfg.INPUT.COLOR = CfgNode()
    # Probability that an image's colours are changed, by either an HSV shift or a
    # brightness-contrast change (UNet#, Sec. 3.3). 0: never.
    cfg.INPUT.COLOR.PROB = 0.0
    # Largest shifts of hue (degrees of 360), saturation and value (of 255).
    cfg.INPUT.COLOR.HSV = [20.0, 30.0, 20.0]
    # Largest relative changes of brightness and of contrast.
    cfg.INPUT.COLOR.BRIGHTNESS = 0.2
    cfg.INPUT.COLOR.CONTRAST = 0.2


def _add_training(cfg: CfgNode) -> None:
    # Optimizer: SGD | AdamW.
    cfg.SOLVER.OPTIMIZER = "SGD"
    # Metric whose best checkpoint is kept as model_best.pth, as <task>/<metric>; "" keeps none.
    cfg.TEST.BEST_METRIC = "segm/AP"
    # Sides in pixels that part COCO's small | medium | large objects (areas 32^2 and 96^2).
    cfg.TEST.AREA_SIDES = [32, 96]
    # True: from MODEL.WEIGHTS of another skip scheme, load what fits (transfer); False: an error.
    cfg.MODEL.WEIGHTS_PARTIAL = False

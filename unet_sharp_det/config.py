"""The keys that this package adds to detectron2's config, each with its meaning and unit."""

from detectron2.config import CfgNode


def add_unet_sharp_config(cfg: CfgNode) -> None:
    """Add the keys of unet_sharp_det to ``cfg`` (in place), and register what they name.

    No key of detectron2 is changed.
    """
    from . import registration  # noqa: F401

    _add_neck(cfg)
    _add_timm(cfg)
    _add_unet(cfg)
    _add_sem_seg_head(cfg)
    _add_input(cfg)
    _add_training(cfg)
    _add_evaluation(cfg)


def _add_neck(cfg: CfgNode) -> None:
    fpn = cfg.MODEL.FPN
    # Skip scheme of the neck: fpn | unetpp | unet3p | unetsharp, or the quoted aliases
    # "++" | "+++" | "#". (Unquoted, YAML reads # as a comment.)
    fpn.SKIP_SCHEME = "unetsharp"
    # Registered name of the bottom-up that build_skip_fpn_backbone puts the neck on: any
    # backbone whose MODEL.FPN.IN_FEATURES have strides that double or repeat.
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
    # Images are padded to a multiple of this many pixels. 0: of the largest stride.
    cfg.MODEL.TIMM.SIZE_DIVISIBILITY = 0
    # FrozenBN: batch statistics stay as loaded | BN: they train | SyncBN | GN.
    cfg.MODEL.TIMM.NORM = "FrozenBN"


def _add_unet(cfg: CfgNode) -> None:
    cfg.MODEL.UNET = CfgNode()
    # Channels of X[0,0], X[1,0], ... of build_unet_encoder, at strides 1, 2, 4, ...
    cfg.MODEL.UNET.CHANNELS = [32, 64, 128, 256, 512]
    # Norm of its convolutions: BN | SyncBN | GN (any width), or else what
    # detectron2.layers.get_norm takes. MODEL.SEM_SEG_HEAD.NORM is the decoder's.
    cfg.MODEL.UNET.NORM = "BN"


def _add_sem_seg_head(cfg: CfgNode) -> None:
    """What UNetSharpHead reads beside detectron2's NAME, IN_FEATURES (finest first, strides
    double or repeat), NUM_CLASSES (channels), NORM, IGNORE_VALUE and LOSS_WEIGHT."""
    head = cfg.MODEL.SEM_SEG_HEAD
    # Skip scheme of the decoder, as MODEL.FPN.SKIP_SCHEME.
    head.SKIP_SCHEME = "unetsharp"
    # What the scheme's convolved edges do: f (convolve) | raw (enter the node as they are).
    head.EDGE = "f"
    # Order of convolution and upsampling on a convolved edge: up_conv (as the paper's Eq. 1
    # reads) | conv_up (another function with the same weights, cheaper).
    head.EDGE_ORDER = "up_conv"
    # Channels that a convolved edge carries. 0: the scheme's own (modeling/skip_decoder.py).
    head.EDGE_CHANNELS = 0
    # Channels of the decoder's nodes, one number per level. []: the scheme's own.
    head.NODE_CHANNELS = []
    # Branches with a loss (UNet#, Sec. 2.2): none (the last node alone) | in (all nodes of full
    # size) | de (the last node of every level) | all.
    head.DEEP_SUPERVISION = "none"
    # At inference: accurate (mean over the branches of full size) | fast (the last one).
    head.INFERENCE = "accurate"
    # What the channels mean: sigmoid (each a map of its own) | softmax (exclusive; channel 0 is
    # the background and counts in NUM_CLASSES).
    head.ACTIVATION = "sigmoid"
    # With sigmoid: the labels of each channel, e.g. [[1, 2, 4], [1, 4], [4]] for BraTS.
    # []: channel c is label c + 1.
    head.REGIONS = []
    # Recompute the decoder's nodes in the backward pass instead of keeping their maps.
    head.ACTIVATION_CHECKPOINT = False
    # Weights of the hybrid loss' terms (UNet#, Eq. 2).
    head.LOSS = CfgNode()
    head.LOSS.FOCAL = 0.5
    head.LOSS.DICE = 1.0
    head.LOSS.LOVASZ = 0.5
    # Classification-guided modules (UNet#, Sec. 2.3): is there any object in the image?
    head.CGM = CfgNode()
    head.CGM.ENABLED = False
    head.CGM.DROPOUT = 0.5
    head.CGM.LOSS_WEIGHT = 1.0


def _add_input(cfg: CfgNode) -> None:
    # Factors to resize a training image by, one drawn per image, instead of to
    # INPUT.MIN_SIZE_TRAIN; a longer side than INPUT.MAX_SIZE_TRAIN is cut down to it. []: by
    # INPUT.MIN_SIZE_TRAIN. Microscopes have a scale: factors keep it, fixed sizes do not.
    cfg.INPUT.SCALE_TRAIN = []
    # Factor to resize test images by, however large they get: prediction cuts tiles, an evaluation
    # of larger images needs the memory (or tools/make_tiles.py). 0: by INPUT.MIN_SIZE_TEST and
    # INPUT.MAX_SIZE_TEST.
    cfg.INPUT.SCALE_TEST = 0.0
    # Bring each image's percentiles 1 and 99.8 to 0 and 255 before all else, in training and
    # testing.
    cfg.INPUT.STRETCH_CONTRAST = False
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
    # With SEED >= 0: order and augmentations of the images, and what the model draws at random,
    # depend on the seed and the iteration alone. A resumed training then goes on as if it had not
    # been stopped, where detectron2 begins with the first images of the seed again.
    cfg.DATALOADER.REPLAYABLE = False
    # Optimizer: SGD | AdamW | Adam (WEIGHT_DECAY is part of its gradient).
    cfg.SOLVER.OPTIMIZER = "SGD"
    # With SOLVER.AMP.ENABLED: fp16 (detectron2's, GPUs only) | bf16 (GPUs, and CPUs with
    # AVX512-BF16 or AMX). A device without it trains in float32.
    cfg.SOLVER.AMP.PRECISION = "fp16"
    # Whether each evaluation during training also takes the training losses on DATASETS.TEST:
    # validation/total_loss, validation/<loss>; of several data sets validation/<data set>/<loss>.
    cfg.TEST.VALIDATION_LOSS = True
    # Metric whose best checkpoint is kept as model_best.pth, as <task>/<metric> (of several data
    # sets the first one's) or <data set>/<task>/<metric>, or a validation loss; "" keeps none.
    # Losses, errors, merges and splits are best when smallest, all else when largest.
    cfg.TEST.BEST_METRIC = "segm/AP"
    cfg.TEST.EARLY_STOPPING = CfgNode()
    # Stop after this many evaluations in a row that did not improve BEST_METRIC. 0: never.
    cfg.TEST.EARLY_STOPPING.PATIENCE = 0
    # By how much BEST_METRIC must pass its best value to be an improvement, in its own unit.
    cfg.TEST.EARLY_STOPPING.MIN_DELTA = 0.0
    # With --eval-only, prune a semantic network to this level, L_1, L_2, ... (UNet#, Sec. 2.4),
    # in the mode MODEL.SEM_SEG_HEAD.INFERENCE. 0: leave it whole.
    cfg.TEST.PRUNE_TO_LEVEL = 0
    # True: a training starts from what fits of MODEL.WEIGHTS of another skip scheme (transfer);
    # False: an error. Evaluation and prediction always need all weights.
    cfg.MODEL.WEIGHTS_PARTIAL = False
    # Names of the classes of objects in results. []: those that the checkpoint keeps, which are
    # those of the data set it was trained on.
    cfg.MODEL.CLASS_NAMES = []


def _add_evaluation(cfg: CfgNode) -> None:
    # Sides in pixels that part COCO's small | medium | large objects (areas 32^2 and 96^2).
    cfg.TEST.AREA_SIDES = [32, 96]
    # Of the measures of instances beside AP and AR.
    cfg.TEST.INSTANCES = CfgNode()
    # Objects of at least this score count.
    cfg.TEST.INSTANCES.SCORE_THRESHOLD = 0.5
    # Objects of at least this many pixels, those of objects with a higher score taken off, count.
    cfg.TEST.INSTANCES.MIN_AREA = 0
    # Objects of which those with higher scores cover more than this share do not count: most are
    # found twice. 1: all count.
    cfg.TEST.INSTANCES.MAX_COVERED = 0.5
    # Pixels between two boundaries that boundary_F1 takes as one.
    cfg.TEST.INSTANCES.BOUNDARY_TOLERANCE = 2.0

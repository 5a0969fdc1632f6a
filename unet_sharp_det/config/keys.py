"""The keys that this package adds to detectron2's config.

docs/CONFIG.md is written from the comments above the keys by ``docs/write_config.py``.
"""

from detectron2.config import CfgNode


def add_unet_sharp_config(cfg: CfgNode) -> None:
    """Add the keys of unet_sharp_det to ``cfg`` (in place), and register what they name.

    No key of detectron2 is changed.
    """
    from .. import registration  # noqa: F401

    # == The neck of a detector: build_skip_fpn_backbone

    # The skip scheme of the neck is one of fpn, unetpp, unet3p, unetsharp, sharp_bi, pafpn,
    # bifpn, or of the aliases "++", "+++" and "#". Quote these: YAML reads # as a comment.
    cfg.MODEL.FPN.SKIP_SCHEME = "unetsharp"
    # Registered name of the backbone below the neck (the bottom-up). Its features
    # MODEL.FPN.IN_FEATURES must have strides that double or repeat.
    cfg.MODEL.FPN.BOTTOM_UP = "build_resnet_backbone"
    # Levels above the last one: maxpool adds p6, which Mask R-CNN needs; p6p7 adds p6 and p7, which
    # RetinaNet needs; none adds nothing.
    cfg.MODEL.FPN.TOP_BLOCK = "maxpool"
    # Channels of every inner node. 0 takes the scheme's own width.
    cfg.MODEL.FPN.NODE_CHANNELS = 0
    # Channels of a convolved skip edge. 0 takes the scheme's own width.
    cfg.MODEL.FPN.EDGE_CHANNELS = 0
    # Order in a convolved edge: conv_up convolves first, at the source's resolution, which is
    # cheap; up_conv upsamples first, as the papers' equations read.
    cfg.MODEL.FPN.EDGE_ORDER = "conv_up"
    # An edge from a finer level is max-pooled (pool), or its convolution, where the scheme has one,
    # has stride 2 (stride). auto takes the scheme's own way.
    cfg.MODEL.FPN.EDGE_DOWN = "auto"
    # A node joins its inputs by concatenation (cat), as MODEL.FPN.FUSE_TYPE says (add), or by a sum
    # with trained weights (weighted). residual adds to FPN's own value what the node makes of its
    # concatenated inputs; it begins at zero, so that the neck starts as FPN and loads weights of
    # FPN models. auto takes the scheme's own way.
    cfg.MODEL.FPN.SKIP_FUSE = "auto"

    # == A timm model as the bottom-up: build_timm_backbone
    cfg.MODEL.TIMM = CfgNode()
    # timm's name of the architecture.
    cfg.MODEL.TIMM.NAME = "tf_efficientnet_lite0"
    # The backbone returns these features, of res1 (stride 2) to res5 (stride 32).
    cfg.MODEL.TIMM.OUT_FEATURES = ["res2", "res3", "res4", "res5"]
    # Images are padded to a multiple of this number of pixels. 0 takes the largest stride.
    cfg.MODEL.TIMM.SIZE_DIVISIBILITY = 0
    # The norms are FrozenBN (statistics stay as loaded), BN (they are trained), SyncBN or GN.
    cfg.MODEL.TIMM.NORM = "FrozenBN"

    # == The encoder of a U-Net: build_unet_encoder, for volumes build_vnet_encoder
    cfg.MODEL.UNET = CfgNode()
    # The encoder's nodes X[0,0], X[1,0], ... at strides 1, 2, 4, ... have these numbers of
    # channels.
    cfg.MODEL.UNET.CHANNELS = [32, 64, 128, 256, 512]
    # The encoder's norms are BN, SyncBN, GN (of any width) or what detectron2.layers.get_norm
    # takes. The decoder has its own key, MODEL.SEM_SEG_HEAD.NORM.
    cfg.MODEL.UNET.NORM = "BN"

    # == The encoder of SegNetr: build_segnetr_backbone
    cfg.MODEL.SEGNETR = CfgNode()
    # res1 has this number of channels, a multiple of 16. SegNetr has 64, SegNetr-S 32.
    cfg.MODEL.SEGNETR.CHANNELS = 64
    # The encoder's norms are BN, SyncBN, GN (of any width) or what detectron2.layers.get_norm
    # takes. The decoder, SegNetrHead, has its own key, MODEL.SEM_SEG_HEAD.NORM.
    cfg.MODEL.SEGNETR.NORM = "BN"
    # skip0 .. skip3 carry the output of patch merging (merged), or every other channel of the
    # encoder's maps (folded).
    cfg.MODEL.SEGNETR.TAP = "merged"
    # The backbone returns these features, of stem (stride 1), res1 (stride 2) to res5 (stride 32)
    # and skip0 (stride 1) to skip3 (stride 8), below which a res must follow. A neck takes
    # res2 .. res5.
    cfg.MODEL.SEGNETR.OUT_FEATURES = ["skip0", "skip1", "skip2", "skip3", "res4"]

    # == The decoder of a semantic model: UNetSharpHead; but for skips and edges SegNetrHead too

    # concat gives a node the encoder's maps as they are. irsc gives it half their channels, those
    # that an information-retention skip connection keeps; maps that are upsampled stay whole.
    cfg.MODEL.SEM_SEG_HEAD.SKIP_CONNECTION = "concat"
    # The skip scheme of the decoder takes the names that MODEL.FPN.SKIP_SCHEME takes.
    cfg.MODEL.SEM_SEG_HEAD.SKIP_SCHEME = "unetsharp"
    # The scheme's convolved edges are convolved (f) or enter the node as they are (raw).
    cfg.MODEL.SEM_SEG_HEAD.EDGE = "f"
    # up_conv upsamples an edge, then convolves it, as the paper's Eq. 1 reads. conv_up is cheaper,
    # but another function with the same weights.
    cfg.MODEL.SEM_SEG_HEAD.EDGE_ORDER = "up_conv"
    # Channels of a convolved edge. 0 takes the scheme's own width.
    cfg.MODEL.SEM_SEG_HEAD.EDGE_CHANNELS = 0
    # Channels of the decoder's nodes, one number per level. [] takes the scheme's own.
    cfg.MODEL.SEM_SEG_HEAD.NODE_CHANNELS = []
    # Convolutions of each node. 0 takes the scheme's own number.
    cfg.MODEL.SEM_SEG_HEAD.NODE_CONVS = 0
    # Which nodes have a loss: the last one alone (none), all of full size (in), the last of every
    # level (de), or both (all). See UNet#, Sec. 2.2.
    cfg.MODEL.SEM_SEG_HEAD.DEEP_SUPERVISION = "none"
    # At inference, accurate takes the mean of all branches of full size, fast the last branch.
    cfg.MODEL.SEM_SEG_HEAD.INFERENCE = "accurate"
    # With sigmoid each channel is a map of its own. With softmax the channels are exclusive:
    # channel 0 is the background, and NUM_CLASSES counts it.
    cfg.MODEL.SEM_SEG_HEAD.ACTIVATION = "sigmoid"
    # With sigmoid, pixels of at least this probability belong to a channel.
    cfg.MODEL.SEM_SEG_HEAD.PROB_THRESHOLD = 0.5
    # The labels of pixels are classes (labels), or NUM_CLASSES bands, 2 pixels wide, of distance to
    # the edge of an object (distance): WatershedSegmentor and VolumeSegmentor make objects of them.
    cfg.MODEL.SEM_SEG_HEAD.TARGET = "labels"
    # With sigmoid, each channel stands for these labels, e.g. [[1, 2, 4], [1, 4], [4]] for BraTS.
    # With [] channel c stands for label c + 1.
    cfg.MODEL.SEM_SEG_HEAD.REGIONS = []
    # True saves memory: the backward pass computes the decoder's nodes again instead of keeping
    # their maps.
    cfg.MODEL.SEM_SEG_HEAD.ACTIVATION_CHECKPOINT = False
    cfg.MODEL.SEM_SEG_HEAD.LOSS = CfgNode()
    # Weight of the focal loss in the hybrid loss (UNet#, Eq. 2).
    cfg.MODEL.SEM_SEG_HEAD.LOSS.FOCAL = 0.5
    # Weight of the Dice loss in the hybrid loss.
    cfg.MODEL.SEM_SEG_HEAD.LOSS.DICE = 1.0
    # Weight of the Lovasz loss in the hybrid loss.
    cfg.MODEL.SEM_SEG_HEAD.LOSS.LOVASZ = 0.5
    cfg.MODEL.SEM_SEG_HEAD.CGM = CfgNode()
    # True adds classification-guided modules (UNet#, Sec. 2.3), which learn whether an image has
    # any object.
    cfg.MODEL.SEM_SEG_HEAD.CGM.ENABLED = False
    # The modules drop inputs with this probability in training.
    cfg.MODEL.SEM_SEG_HEAD.CGM.DROPOUT = 0.5
    # Weight of the modules' loss.
    cfg.MODEL.SEM_SEG_HEAD.CGM.LOSS_WEIGHT = 1.0

    # == Instances by a watershed: WatershedSegmentor, and VolumeSegmentor with distances
    cfg.MODEL.WATERSHED = CfgNode()
    # Objects of fewer pixels are left out: a network that is unsure finds specks.
    cfg.MODEL.WATERSHED.MIN_AREA = 16
    # The objects of images have this number of classes. With several, the network has a channel for
    # each, beside the bands of distance: an object's class is the one that is likeliest on average
    # over its pixels. Objects of volumes have one class.
    cfg.MODEL.WATERSHED.NUM_CLASSES = 1

    # == A network of another library: build_image_backbone and ExternalHead
    cfg.MODEL.EXTERNAL = CfgNode()
    # The network's class: PSPNet or DeepLabV3Plus of segmentation_models_pytorch,
    # AttentionUnet or DynUNet (nnU-Net's) of MONAI, or ENet. See docs/RIVALS.md.
    cfg.MODEL.EXTERNAL.NAME = "PSPNet"
    # Arguments of the class, by name, but for the numbers of input and output channels. The command
    # line can change only those that the config file has. With GN for MODEL.SEM_SEG_HEAD.NORM,
    # group norms take the place of the network's batch norms.
    cfg.MODEL.EXTERNAL.ARGUMENTS = CfgNode(new_allowed=True)
    # The network gets images whose sides are padded to a multiple of this number of pixels.
    cfg.MODEL.EXTERNAL.SIZE_DIVISIBILITY = 32

    # == Images before they enter the network

    # A training image is resized by a factor drawn from this list, and its longer side is cut down
    # to INPUT.MAX_SIZE_TRAIN pixels. Factors keep the microscope's scale, which fixed sizes do not.
    # With [] it is resized to INPUT.MIN_SIZE_TRAIN, as in detectron2.
    cfg.INPUT.SCALE_TRAIN = []
    # A test image is resized by this factor. Prediction cuts tiles, but an evaluation of large
    # images needs the memory. 0 resizes it to INPUT.MIN_SIZE_TEST.
    cfg.INPUT.SCALE_TEST = 0.0
    # Pixel size, in micrometres, of the images that INPUT.SCALE_TEST is for. A prediction resizes
    # images of another pixel size to match. 0: unknown.
    cfg.INPUT.PIXEL_SIZE = 0.0
    # Median diameter, in pixels, of the training's objects. `predict --scale auto` chooses the
    # scale of an image by it. 0: a training measures it by their boxes; a model without it takes
    # 20, that of DSB2018.
    cfg.INPUT.DIAMETER = 0.0
    # True brings the percentiles 1 and 99.8 of each image to 0 and 255 before all else, in training
    # and testing.
    cfg.INPUT.STRETCH_CONTRAST = False
    # True turns training images by 0, 90, 180 or 270 degrees with equal probability. Beside it,
    # INPUT.RANDOM_FLIP also takes "both": horizontal and vertical, each with probability 0.5.
    cfg.INPUT.RANDOM_ROTATE90 = False
    # A training image is inverted, dark becomes bright, with this probability.
    cfg.INPUT.INVERT_PROB = 0.0
    cfg.INPUT.COLOR = CfgNode()
    # The colours of a training image are changed with this probability, by either an HSV shift or a
    # change of brightness and contrast (UNet#, Sec. 3.3).
    cfg.INPUT.COLOR.PROB = 0.0
    # Largest shifts of hue (in degrees of 360), saturation and value (of 255).
    cfg.INPUT.COLOR.HSV = [20.0, 30.0, 20.0]
    # Largest change of brightness, as a share from 0 to 1.
    cfg.INPUT.COLOR.BRIGHTNESS = 0.2
    # Largest change of contrast, as a share from 0 to 1.
    cfg.INPUT.COLOR.CONTRAST = 0.2

    # == Volumes: VolumeSegmentor. MODEL.PIXEL_MEAN and PIXEL_STD have a number per channel
    cfg.INPUT.VOLUME = CfgNode()
    # The network sees patches of [D, H, W] voxels, in training and testing; smaller volumes are
    # padded. [1, H, W] makes it a 2D network on slices. A patch with a side of 3 D or more is
    # turned, scaled and bent in its slices only.
    cfg.INPUT.VOLUME.PATCH_SIZE = [64, 64, 64]
    # Volumes are resampled to voxels of [z, y, x] mm, or so near to it that whole ones fill the
    # volume, and predictions back. [] leaves them as they are.
    cfg.INPUT.VOLUME.SPACING = []
    # Values are cut off at [low, high], e.g. [-200, 250] HU, and brought to -1 and 1. With [], each
    # channel gets mean 0 and standard deviation 1 over its voxels that are not 0.
    cfg.INPUT.VOLUME.WINDOW = []
    # This share of the training patches has a voxel of a foreground label in its middle, each label
    # equally often; that of the others is background.
    cfg.INPUT.VOLUME.FOREGROUND_RATIO = 0.5
    # Training patches are mirrored along these axes (0, 1, 2: z, y, x), each with probability 0.5.
    cfg.INPUT.VOLUME.FLIP_AXES = [0, 1, 2]
    # Rotation and scaling, elastic bending, noise, brightness and gamma each change a training
    # patch with this probability.
    cfg.INPUT.VOLUME.AUGMENT_PROB = 0.3
    # Training volumes that each process that loads data keeps in memory, prepared.
    cfg.INPUT.VOLUME.CACHE = 8

    # == Training

    # True lets a resumed training go on as if it had not been stopped: the images, their
    # augmentations and what the model draws depend on SEED (at least 0) and the iteration alone.
    # False starts with the first images again, as detectron2 does.
    cfg.DATALOADER.REPLAYABLE = False
    # An image of a look (fluorescence, histology, bright-field) that has n images is drawn
    # (N / n) ** BALANCE_LOOKS times as often as one of the most common look, which has N. 0 draws
    # all images equally often, 1 all looks.
    cfg.DATALOADER.BALANCE_LOOKS = 0.0
    # Beside TensorBoard, a tracker gets the config, the metrics and images of the validation: wandb
    # or mlflow. Each is set up by its own environment variables. "" takes none.
    cfg.TRACKING = ""
    # SGD, AdamW, or Adam, in which SOLVER.WEIGHT_DECAY is part of the gradient.
    cfg.SOLVER.OPTIMIZER = "SGD"
    # Evaluations and checkpoints get the moving average of the weights, of which this share, e.g.
    # 0.999, stays at each iteration. 0 takes the trained weights.
    cfg.SOLVER.EMA_DECAY = 0.0
    # With SOLVER.AMP.ENABLED, a training computes in fp16 (on GPUs) or bf16 (on GPUs, and on CPUs
    # with AMX). A device that lacks it trains in float32.
    cfg.SOLVER.AMP.PRECISION = "fp16"
    # True starts a training from those weights of MODEL.WEIGHTS that fit, though they are of
    # another skip scheme. False refuses such weights.
    cfg.MODEL.WEIGHTS_PARTIAL = False
    # Names of the objects' classes in results. [] takes those that the checkpoint keeps, which are
    # those of the data set it was trained on.
    cfg.MODEL.CLASS_NAMES = []
    # True computes the training losses on DATASETS.TEST at every evaluation during the training.
    # They are logged as validation/total_loss and validation/<loss>; with several data sets as
    # validation/<data set>/<loss>.
    cfg.TEST.VALIDATION_LOSS = True
    # The checkpoint that is best by this metric is kept as model_best.pth. Name it
    # <task>/<metric> (the first data set's), <data set>/<task>/<metric> or a validation loss; ""
    # keeps none. Losses, errors, merges and splits are best when smallest, all else when largest.
    cfg.TEST.BEST_METRIC = "segm/AP"
    cfg.TEST.EARLY_STOPPING = CfgNode()
    # The training stops after this number of evaluations in a row that did not improve
    # TEST.BEST_METRIC. 0 trains to the end.
    cfg.TEST.EARLY_STOPPING.PATIENCE = 0
    # TEST.BEST_METRIC must pass its best value by more than this to be improved, in its own unit.
    cfg.TEST.EARLY_STOPPING.MIN_DELTA = 0.0

    # == Evaluation

    # A trained network with a U-Net's decoder is pruned to this level, L_1, L_2, ... (UNet#,
    # Sec. 2.4), in the mode MODEL.SEM_SEG_HEAD.INFERENCE, by --eval-only and for prediction. 0
    # leaves it whole.
    cfg.TEST.PRUNE_TO_LEVEL = 0
    # Sides, in pixels, that part COCO's small, medium and large objects (areas 32^2 and 96^2).
    cfg.TEST.AREA_SIDES = [32, 96]
    cfg.TEST.INSTANCES = CfgNode()
    # The measures of instances, but for AP and AR, count objects of at least this score.
    cfg.TEST.INSTANCES.SCORE_THRESHOLD = 0.5
    # These measures count objects of at least this number of pixels, without those pixels that
    # objects with a higher score have.
    cfg.TEST.INSTANCES.MIN_AREA = 0
    # These measures leave out an object of which better ones cover more than this share: it was
    # probably found twice. 1 counts them all.
    cfg.TEST.INSTANCES.MAX_COVERED = 0.5
    # boundary_F1 takes two boundaries as one up to this distance, in pixels.
    cfg.TEST.INSTANCES.BOUNDARY_TOLERANCE = 2.0
    cfg.TEST.VOLUME = CfgNode()
    # In a volume, neighbouring windows of INPUT.VOLUME.PATCH_SIZE share this part of their sides.
    cfg.TEST.VOLUME.OVERLAP = 0.5
    # surface_Dice takes two surfaces of a volume as one up to this distance, in mm.
    cfg.TEST.VOLUME.SURFACE_TOLERANCE = 2.0

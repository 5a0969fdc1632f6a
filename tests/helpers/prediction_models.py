"""Models for tests of prediction: a finder that knows the answer, and small networks."""

from pathlib import Path

import numpy as np
import torch
from detectron2.modeling import build_model
from scipy import ndimage

from unet_sharp_det.config import setup_cfg
from unet_sharp_det.data.augmentation import ScaleBy
from unet_sharp_det.masks.instances import SparseInstances
from unet_sharp_det.prediction import PredictionOptions, Predictor
from unet_sharp_det.prediction.merging import merge_detections

REPOSITORY = Path(__file__).parents[2]


class BrightBlobs:
    """Finds the 4-connected parts brighter than 100, as a detector does: in whole windows.

    Attributes:
        batches: the number of windows of each call.
        largest: the largest side of each call's windows.
    """

    least_score = 0.0

    def __init__(self, memory=1 << 40):
        """
        Args:
            memory: pixels that fit at once; more is as if a GPU's memory did not suffice.
        """
        self.memory = memory
        self.batches, self.largest = [], []

    def find(self, windows, tiles, shape, scale, factor=1):
        if sum(window[:, :, 0].size for window in windows) > self.memory:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        self.batches.append(len(windows))
        self.largest.append(max(windows[0].shape[:2]))
        return [
            self._parts(np.kron(window[:, :, 0], np.ones([factor] * 2, np.uint8))).moved(
                tile.rows.start, tile.columns.start, shape
            )
            for window, tile in zip(windows, tiles, strict=True)
        ]

    def join(self, tiles, parts, shape, scale):
        return merge_detections(shape, tiles, parts)

    def _parts(self, window):
        labels, count = ndimage.label(window > 100)
        return SparseInstances.from_label_map(labels, np.full(count, 0.9))


def predictor_of(finder, **options):
    """A predictor whose model is never run: ``finder`` takes its place. Objects stay as found."""
    model = build_model(semantic_cfg())
    options = PredictionOptions(**{"clean": False, **options})
    predictor = Predictor(model, ScaleBy([1.0]), options=options)
    predictor._finder = finder
    return predictor


def compact_detector_cfg():
    """A Mask R-CNN of few channels, for images at twice their size."""
    opts = {
        "MODEL.DEVICE": "cpu",
        "MODEL.WEIGHTS": "",
        "MODEL.FPN.OUT_CHANNELS": "32",
        "MODEL.ROI_BOX_HEAD.FC_DIM": "32",
        "MODEL.ROI_MASK_HEAD.CONV_DIM": "16",
        "MODEL.RPN.PRE_NMS_TOPK_TEST": "100",
        "MODEL.RPN.POST_NMS_TOPK_TEST": "50",
    }
    config = "configs/DSB2018-InstanceSegmentation/compact/mask_rcnn_lite0_unetsharp.yaml"
    return _cfg(config, opts)


def semantic_cfg():
    """A UNet# of three levels, whose norm doesn't depend on the window as GN does."""
    opts = {
        "MODEL.UNET.NORM": "BN",
        "MODEL.SEM_SEG_HEAD.NORM": "BN",
        "MODEL.DEVICE": "cpu",
        "MODEL.WEIGHTS": "",
        "MODEL.UNET.CHANNELS": "[8, 8, 8]",
        "MODEL.SEM_SEG_HEAD.IN_FEATURES": "['res0', 'res1', 'res2']",
        "MODEL.SEM_SEG_HEAD.NODE_CHANNELS": "[8, 8, 8]",
    }
    return _cfg("configs/DSB2018-SemanticSegmentation/compact/unetsharp.yaml", opts)


def half_foreground_model(image):
    """A semantic model with random weights, by whose bias half of the pixels are foreground."""
    torch.manual_seed(1)
    model = build_model(semantic_cfg()).eval()
    (branch,) = model.sem_seg_head.decoder.heads.values()
    with torch.no_grad():
        pixels = torch.from_numpy(image.transpose(2, 0, 1).copy())
        (output,) = model([{"image": pixels}])
        branch.bias -= output["sem_seg"].logit().median()
    return model


def watershed_cfg(**opts):
    """The same with instances by a watershed."""
    cfg = semantic_cfg()
    distances = {
        "MODEL.META_ARCHITECTURE": "WatershedSegmentor",
        "MODEL.MASK_ON": "True",
        "MODEL.SEM_SEG_HEAD.TARGET": "distance",
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": "3",
        "MODEL.SEM_SEG_HEAD.DEEP_SUPERVISION": "in",
        "MODEL.SEM_SEG_HEAD.INFERENCE": "fast",
    }
    cfg.merge_from_list([part for pair in {**distances, **opts}.items() for part in pair])
    return cfg


def _cfg(config, opts):
    return setup_cfg(str(REPOSITORY / config), [part for pair in opts.items() for part in pair])


def blobs(shape, seed=0, sigma=3):
    """An image (H, W, 3) of bright spots, and their label map."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma)
    mask = noise > noise.std()
    image = np.where(mask, 200, 10).astype(np.uint8)
    return np.repeat(image[:, :, None], 3, axis=2), ndimage.label(mask)[0]

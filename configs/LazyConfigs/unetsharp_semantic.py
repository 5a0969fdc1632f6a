"""UNet# with all branches as a LazyConfig: detectron2's SemanticSegmentor, with our parts."""

import torch
from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.data import (
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data import transforms as T
from detectron2.modeling import SemanticSegmentor
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler
from omegaconf import OmegaConf

from unet_sharp_det import UNetSharpHead
from unet_sharp_det.data import NucleiDatasetMapper, RandomColor, RandomRotate90, StretchContrast
from unet_sharp_det.data.augmentation import RandomScaledCrop, ScaleBy
from unet_sharp_det.evaluation import EvaluationOptions, SemanticEvaluator
from unet_sharp_det.modeling import HybridLoss, SkipDecoder, UNetEncoder, decoder_options
from unet_sharp_det.modeling.semantic_labels import SemanticLabels

model = L(SemanticSegmentor)(
    backbone=L(UNetEncoder)(channels=[32, 64, 128, 256, 512]),
    sem_seg_head=L(UNetSharpHead)(
        decoder=L(SkipDecoder)(
            in_channels="${...backbone.channels}",
            scheme="unetsharp",
            options=L(decoder_options)(scheme="${..scheme}"),
            deep_supervision="all",
        ),
        in_features=["res0", "res1", "res2", "res3", "res4"],
        labels=L(SemanticLabels)(num_classes=1),
        loss=L(HybridLoss)(),
    ),
    pixel_mean=[127.5, 127.5, 127.5],
    pixel_std=[127.5, 127.5, 127.5],
)

# The recipe of UNet#, Sec. 3.3: see configs/Base-UNet-Nuclei.yaml.
dataloader = OmegaConf.create()
dataloader.train = L(build_detection_train_loader)(
    dataset=L(get_detection_dataset_dicts)(names="dsb2018_train", filter_empty=False),
    mapper=L(NucleiDatasetMapper)(
        is_train=True,
        augmentations=[
            L(StretchContrast)(),
            L(RandomScaledCrop)(
                scale=L(ScaleBy)(factors=[1.0], max_size=4096), crop_size=(256, 256)
            ),
            L(T.RandomFlip)(horizontal=True, vertical=False),
            L(T.RandomFlip)(horizontal=False, vertical=True),
            L(RandomRotate90)(),
            L(RandomColor)(
                prob=0.8, hsv=[20, 30, 20], brightness=0.2, contrast=0.2, image_format="RGB"
            ),
        ],
        image_format="RGB",
        use_instances=False,
        semantic="${model.sem_seg_head.labels}",
    ),
    total_batch_size=128,
    num_workers=4,
)
dataloader.test = L(build_detection_test_loader)(
    dataset=L(get_detection_dataset_dicts)(names="dsb2018_val", filter_empty=False),
    mapper=L(NucleiDatasetMapper)(
        is_train=False,
        augmentations=[L(StretchContrast)(), L(ScaleBy)(factors=[1.0], max_size=4096)],
        image_format="${...train.mapper.image_format}",
        recompute_boxes=False,
        use_instances=False,
        semantic="${model.sem_seg_head.labels}",
    ),
    num_workers=2,
)
dataloader.evaluator = L(SemanticEvaluator)(
    dataset_name="${..test.dataset.names}",
    labels="${model.sem_seg_head.labels}",
    options=EvaluationOptions(),
    output_dir="${train.output_dir}/inference",
)

optimizer = model_zoo.get_config("common/optim.py").AdamW
optimizer._target_ = torch.optim.Adam
optimizer.lr = 0.001
optimizer.weight_decay = 0.0001

train = model_zoo.get_config("common/train.py").train
train.init_checkpoint = ""
train.max_iter = 260
train.eval_period = 65
train.checkpointer.period = 65
train.best_metric = "sem_seg/IoU_image_mean"
train.validation_loss = True
train.amp = dict(enabled=True, precision="fp16")

lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.0),
    warmup_length=10 / 260,
    warmup_factor=0.001,
)

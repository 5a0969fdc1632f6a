"""V-Net# on volumes as a LazyConfig: configs/Volumes/vnetsharp.yaml, for liver and tumour in CT."""

import torch
from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.data import (
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler
from omegaconf import OmegaConf

from unet_sharp_det import UNetSharpHead
from unet_sharp_det.data import VolumeMapper
from unet_sharp_det.evaluation import EvaluationOptions, VolumeEvaluator
from unet_sharp_det.modeling import (
    HybridLoss,
    SkipDecoder,
    VNetEncoder,
    VolumeSegmentor,
    decoder_options,
)
from unet_sharp_det.modeling.semantic_labels import SemanticLabels

model = L(VolumeSegmentor)(
    backbone=L(VNetEncoder)(channels=[16, 32, 64, 128, 256]),
    sem_seg_head=L(UNetSharpHead)(
        decoder=L(SkipDecoder)(
            in_channels="${...backbone.channels}",
            num_classes="${..labels.num_classes}",
            scheme="unetsharp",
            options=L(decoder_options)(scheme="${..scheme}", edge="raw", norm="BN", dim=3),
        ),
        in_features=["res0", "res1", "res2", "res3", "res4"],
        labels=L(SemanticLabels)(num_classes=2, regions=[[1, 2], [2]]),
        loss=L(HybridLoss)(),
    ),
    patch_size=[64, 64, 64],
)

dataloader = OmegaConf.create()
dataloader.train = L(build_detection_train_loader)(
    dataset=L(get_detection_dataset_dicts)(names="lits17_train", filter_empty=False),
    mapper=L(VolumeMapper)(
        is_train=True,
        labels="${model.sem_seg_head.labels}",
        patch_size="${model.patch_size}",
        spacing=[2.0, 1.0, 1.0],
        window=[-200, 250],
        flip_axes=[],  # The liver lies on one side.
    ),
    aspect_ratio_grouping=False,
    total_batch_size=4,
    num_workers=4,
)
dataloader.test = L(build_detection_test_loader)(
    dataset=L(get_detection_dataset_dicts)(names="lits17_val", filter_empty=False),
    mapper=L(VolumeMapper)(
        is_train=False,
        labels="${model.sem_seg_head.labels}",
        patch_size="${model.patch_size}",
        spacing="${...train.mapper.spacing}",
        window="${...train.mapper.window}",
    ),
    num_workers=2,
)
dataloader.evaluator = L(VolumeEvaluator)(
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
train.max_iter = 20000
train.eval_period = 2000
train.checkpointer.period = 2000
train.best_metric = "sem_seg/Dice_image_mean"
train.amp = dict(enabled=True, precision="bf16")

lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.0),
    warmup_length=100 / 20000,
    warmup_factor=0.001,
)

"""Mask R-CNN R-50 with the # neck as a LazyConfig: detectron2's stock model, one target swapped."""

from detectron2 import model_zoo
from detectron2.config import LazyCall as L
from detectron2.data import (
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data import transforms as T
from detectron2.evaluation import DatasetEvaluators
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler
from omegaconf import OmegaConf

from unet_sharp_det import SkipFPN, neck_options
from unet_sharp_det.data import NucleiDatasetMapper, RandomColor, RandomRotate90
from unet_sharp_det.data.augmentation import RandomScaledCrop, ScaleBy
from unet_sharp_det.evaluation import EvaluationOptions, InstanceEvaluator, NucleiCOCOEvaluator

model = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
model.backbone._target_ = SkipFPN
model.backbone.scheme = "unetsharp"
# Widths and the like, e.g. model.backbone.options.node_channels=128 on the command line.
model.backbone.options = L(neck_options)(scheme="${..scheme}")
# Nuclei: see configs/Base-MaskRCNN-Nuclei.yaml for the reasons.
model.proposal_generator.anchor_generator.sizes = [[12], [24], [48], [96], [192]]
model.roi_heads.num_classes = 1
model.roi_heads.box_predictor.test_topk_per_image = 500

dataloader = OmegaConf.create()
dataloader.train = L(build_detection_train_loader)(
    dataset=L(get_detection_dataset_dicts)(names="dsb2018_train", filter_empty=False),
    mapper=L(NucleiDatasetMapper)(
        is_train=True,
        augmentations=[
            L(RandomScaledCrop)(
                scale=L(ScaleBy)(factors=[1.4, 2.0, 2.8], max_size=4096), crop_size=(512, 512)
            ),
            L(T.RandomFlip)(horizontal=True, vertical=False),
            L(T.RandomFlip)(horizontal=False, vertical=True),
            L(RandomRotate90)(),
            L(RandomColor)(
                prob=0.8, hsv=[20, 30, 20], brightness=0.2, contrast=0.2, image_format="BGR"
            ),
        ],
        image_format="BGR",
    ),
    total_batch_size=8,
    num_workers=4,
)
dataloader.test = L(build_detection_test_loader)(
    dataset=L(get_detection_dataset_dicts)(names="dsb2018_val", filter_empty=False),
    mapper=L(NucleiDatasetMapper)(
        is_train=False,
        augmentations=[L(ScaleBy)(factors=[2.0], max_size=2800)],
        image_format="${...train.mapper.image_format}",
        recompute_boxes=False,
    ),
    num_workers=2,
)
options = EvaluationOptions(max_dets=500, area_sides=(14, 22))
dataloader.evaluator = L(DatasetEvaluators)(
    evaluators=[
        L(NucleiCOCOEvaluator)(
            dataset_name="${dataloader.test.dataset.names}",
            tasks=("bbox", "segm"),
            options=options,
            output_dir="${train.output_dir}/inference",
        ),
        L(InstanceEvaluator)(
            dataset_name="${dataloader.test.dataset.names}",
            options=options,
            output_dir="${train.output_dir}/inference",
        ),
    ]
)

optimizer = model_zoo.get_config("common/optim.py").SGD
optimizer.lr = 0.01

train = model_zoo.get_config("common/train.py").train
train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
train.max_iter = 6000
train.eval_period = 1000
train.checkpointer.period = 1000
train.best_metric = "segm/AP"
train.amp.precision = "fp16"  # or bf16, with train.amp.enabled
train.validation_loss = True

lr_multiplier = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.0),
    warmup_length=500 / 6000,
    warmup_factor=0.001,
)

"""Images as detectron2's models take them, with squares for nuclei."""

import torch
from detectron2.structures import BitMasks, Boxes, Instances


def nuclei_record(seed: int, height: int = 70, width: int = 90, nuclei: int = 3) -> dict:
    generator = torch.Generator().manual_seed(seed)
    masks = torch.zeros(nuclei, height, width, dtype=torch.bool)
    for index, mask in enumerate(masks):
        mask[10 : 30 + index, 10 + 25 * index : 30 + 25 * index] = True
    masks = BitMasks(masks)
    boxes = masks.get_bounding_boxes() if nuclei else Boxes(torch.zeros(0, 4))
    instances = Instances(
        (height, width),
        gt_boxes=boxes,
        gt_classes=torch.zeros(nuclei, dtype=torch.int64),
        gt_masks=masks,
    )
    return {
        "image": torch.randint(0, 256, (3, height, width), generator=generator).float(),
        "instances": instances,
        "sem_seg": masks.tensor.any(0).long(),
        "height": height,
        "width": width,
    }

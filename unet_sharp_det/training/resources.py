"""What a training and its evaluation need: speed of prediction, memory of the GPU."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from ..files import write_json

SPEED_FILE = "speed.json"
DEVICE_MEMORY_FILE = "device_memory.json"
WARM_UP = 5


@contextlib.contextmanager
def measured_speed(model: nn.Module) -> Iterator[dict[str, float]]:
    """Time the calls of ``model``, with a batch of images each, within the block.

    Yields:
        a dict that after the block holds ``images`` and ``images_per_second``, without the first
        ``WARM_UP`` calls if others follow; without any call nothing.
    """
    calls, speed = [], {}

    def now():
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        return time.perf_counter()

    def start(module, args):
        calls.append((len(args[0]), now()))

    def stop(module, args, output):
        images, started = calls.pop()
        calls.append((images, now() - started))

    hooks = [model.register_forward_pre_hook(start), model.register_forward_hook(stop)]
    try:
        yield speed
    finally:
        for hook in hooks:
            hook.remove()
    if calls:
        counted = calls[min(WARM_UP, len(calls) - 1) :]
        images, seconds = map(sum, zip(*counted, strict=True))
        speed.update(images=images, images_per_second=images / seconds)


def write_device_memory(output_dir, *, resumed: bool = False) -> None:
    """Write ``device_memory.json``, the peak of this process' GPU in MiB, if there is one; of a
    training that was ``resumed`` a higher peak of its earlier processes stays."""
    if not torch.cuda.is_initialized():
        return
    path = Path(output_dir, DEVICE_MEMORY_FILE)
    peak = torch.cuda.max_memory_allocated() / 2**20
    if resumed and path.is_file():
        peak = max(peak, json.loads(path.read_text())["peak_mib"])
    write_json(path, {"peak_mib": peak})

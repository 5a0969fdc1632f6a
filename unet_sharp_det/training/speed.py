"""The speed of an evaluated network."""

import contextlib
import time
from collections.abc import Iterator

import torch
from torch import nn

SPEED_FILE = "speed.json"
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

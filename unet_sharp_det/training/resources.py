"""What a training and its evaluation need: speed of prediction, memory of the GPU."""

import contextlib
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from ..files import write_json

SPEED_FILE = "speed.json"
DEVICE_MEMORY_FILE = "device_memory.json"
WARM_UP = 5


class InferenceSpeed:
    """Seconds of the calls of a model, of the wall and of the CPU, without the first ones."""

    def __init__(self, warm_up: int = WARM_UP):
        """
        Args:
            warm_up: calls that do not count, as long as others follow.
        """
        self._warm_up = warm_up
        self._calls: list[tuple[int, float, float]] = []

    @contextlib.contextmanager
    def measure(self, model: nn.Module) -> Iterator[None]:
        """Time all calls of ``model`` within the block; one at a time, with a batch of images."""
        started = []

        def start(module, args):
            _synchronize()
            started[:] = [time.perf_counter(), time.process_time()]

        def stop(module, args, output):
            _synchronize()
            wall, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
            self._calls.append((len(args[0]), wall, cpu))

        hooks = [model.register_forward_pre_hook(start), model.register_forward_hook(stop)]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def summary(self) -> dict[str, float]:
        """``{"images", "images_per_second", "cpu_seconds_per_image"}``; empty without a call."""
        counted = self._calls[min(self._warm_up, len(self._calls) - 1) :]
        if not counted:
            return {}
        images, wall, cpu = (sum(column) for column in zip(*counted, strict=True))
        return {
            "images": images,
            "images_per_second": images / wall,
            "cpu_seconds_per_image": cpu / images,
        }

    def write(self, folder) -> None:
        """Write the summary, if there is one, to ``speed.json`` in ``folder``, atomically."""
        if summary := self.summary():
            write_json(os.path.join(folder, SPEED_FILE), summary, indent=2)


def write_device_memory(output_dir, *, resumed: bool = False) -> None:
    """Write ``device_memory.json``, the peak of this process' GPU in MiB; without one nothing.

    Args:
        output_dir: of the training.
        resumed: whether it went on, so that a higher peak of its earlier processes stays.
    """
    if not (torch.cuda.is_available() and torch.cuda.is_initialized()):
        return
    path = Path(output_dir, DEVICE_MEMORY_FILE)
    peak = torch.cuda.max_memory_allocated() / 2**20
    if resumed and path.is_file():
        peak = max(peak, json.loads(path.read_text())["peak_mib"])
    write_json(path, {"peak_mib": peak})


def _synchronize() -> None:
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.synchronize()

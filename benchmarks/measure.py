"""Timing, peak memory and tables."""

import multiprocessing
import os
import platform
import re
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import torch
from tabulate import tabulate
from torch.utils.flop_counter import FlopCounterMode

from unet_sharp_det.runtime.memory import give_back_freed_memory


def machine(threads: int | None = None, device: str = "cuda") -> str:
    """One line on what the figures were taken on.

    Args:
        threads: of the process that they are of, on a CPU; None: this one.
        device: that they are of; "cuda" without a GPU is the CPU.
    """
    threads = threads or torch.get_num_threads()
    versions = f"Python {platform.python_version()}, torch {torch.__version__}"
    if device.startswith("cuda") and torch.cuda.is_available():
        return f"{torch.cuda.get_device_name()}, {versions}"
    cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    name = cpu[1] if cpu else platform.processor()
    return f"{name}, {os.cpu_count()} cores, {threads} threads, {versions}"


def take_turns(steps: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each step; the steps take turns, so that drift hits all alike.

    Args:
        steps: what to time, by name; each runs once before, uncounted.
        repeats: counted runs of each.
    """
    for step in steps.values():
        step()
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(repeats):
        for name, step in steps.items():
            synchronize()
            start = time.perf_counter()
            step()
            synchronize()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


def peak_memory(step: Callable[[], object]) -> float:
    """MiB that one run of ``step`` needs at its peak, above what is held before.

    On a GPU by torch's allocator; on the CPU by the resident set, as Linux accounts it.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    give_back_freed_memory()
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before = _status("VmRSS")
    step()
    return (_status("VmHWM") - before) / 1024


def in_fresh_process(function: Callable, *arguments):
    """Call a module's function in a new process, for an allocator keeps what others have freed."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


def multiply_adds(step: Callable[[], object]) -> int:
    """Multiply-adds of the convolutions and matrix products that ``step`` runs.

    Those that really run, convolutions of upsampled maps as they are rearranged
    (:func:`unet_sharp_det.modeling.layers.convolve_upsampled`).
    """
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        step()
    return counter.get_total_flops() // 2


def autocast(bf16: bool) -> torch.autocast:
    """Bfloat16 on the GPU, or on the CPU without one; if not wanted, nothing changes."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.autocast(device, torch.bfloat16, enabled=bf16)


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def table(title: str, headers: Sequence[str], rows: Sequence[Sequence], **options) -> str:
    """A Markdown table under its title and the machine's description.

    Args:
        title: the line above.
        headers, rows: of the table.
        options: of tabulate; floats have three decimals unless they say.
    """
    body = tabulate(rows, headers, tablefmt="github", **{"floatfmt": ".3f", **options})
    return f"{title}\n{machine()}\n\n{body}\n"


def _status(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return int(re.search(rf"{field}:\s*(\d+) kB", status)[1])

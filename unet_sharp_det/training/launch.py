"""Workers: one process, those of detectron2's launcher, or those that torchrun or Slurm started."""

import contextlib
import os
import signal
import sys
import time

import torch
import torch.distributed as dist
from detectron2.engine import create_ddp_model
from detectron2.engine import launch as detectron2_launch
from detectron2.utils import comm
from torch import nn
from torch.multiprocessing import ProcessExitedException

from ..errors import ConfigError, UserError


def launch(main, args, device: str) -> None:
    """Run ``main(args)`` in every worker that ``args`` asks for.

    A process that torchrun or Slurm started is a worker itself. Its group may be a restarted one,
    so it resumes: ``args.resume`` becomes True.

    Args:
        main: a function of the module's top level.
        args: of the command ``train``.
        device: ``cuda`` or ``cpu``. On ``cpu``, ``--num-gpus N`` starts N processes that talk by
            gloo and see no GPU.
    """
    if "LOCAL_WORLD_SIZE" in os.environ:
        args.resume = True
        _join_process_group(main, args, device)
        return
    check_num_gpus(args.num_gpus, device)
    if args.num_gpus == 1:
        main(args)
        return
    if device.startswith("cpu"):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""  # Where it sees one, detectron2 takes NCCL.
    signal.signal(signal.SIGTERM, _forward_to_workers)
    try:
        detectron2_launch(
            _run_spawned,
            args.num_gpus,
            dist_url="auto",  # A free port: other trainings may run on this machine.
            args=(main, args, device),
        )
    except ProcessExitedException as error:
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        _forward_to_workers()
        raise


def _forward_to_workers(*_) -> None:
    for worker in torch.multiprocessing.active_children():
        worker.terminate()


def check_num_gpus(num_gpus: int, device: str) -> None:
    """Raise a ConfigError if this machine has fewer GPUs, or CPUs, than workers are asked for."""
    if device.startswith("cpu"):
        available, kind = os.cpu_count() or 1, "CPU cores"
    else:
        available, kind = torch.cuda.device_count(), "GPUs"
    most = max(1, available)
    if not 1 <= num_gpus <= most:
        raise ConfigError(
            f"--num-gpus {num_gpus}, but this machine has {available} {kind}. Ask for "
            f"{'1' if most == 1 else f'1 to {most}'}, or set MODEL.DEVICE (LazyConfig: "
            "train.device) to cpu."
        )


def distribute(model: nn.Module) -> nn.Module:
    """Wrap ``model`` in DistributedDataParallel where there are several workers, GPU or CPU."""
    on_gpu = next(model.parameters()).is_cuda
    device_ids = [torch.cuda.current_device()] if on_gpu else None
    return create_ddp_model(model, broadcast_buffers=False, device_ids=device_ids)


def _uses_gpu(device: str) -> bool:
    return torch.cuda.is_available() and not device.startswith("cpu")


def _join_process_group(main, args, device: str) -> None:
    if _uses_gpu(device):
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group("nccl" if _uses_gpu(device) else "gloo")
    comm.create_local_process_group(int(os.environ["LOCAL_WORLD_SIZE"]))
    try:
        _run_worker(main, args, device)
    finally:
        dist.destroy_process_group()


def _run_spawned(main, args, device: str) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started it.
    _run_worker(main, args, device)


def _run_worker(main, args, device: str) -> None:
    """Run ``main`` in one of several workers; they share the cores, and one tells errors."""
    if not _uses_gpu(device):
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // comm.get_local_size()))
    try:
        main(args)
    except UserError as error:
        if _is_first_to_fail():
            print(f"error: {error}", file=sys.stderr, flush=True)
        else:
            time.sleep(60)  # The first worker to exit has the others terminated.
        sys.exit(2)


def _is_first_to_fail() -> bool:
    with contextlib.suppress(RuntimeError):  # Rank 0, which has the store, failed and ended.
        return dist.distributed_c10d._get_default_store().add("failed workers", 1) == 1
    return False

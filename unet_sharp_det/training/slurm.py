"""Jobs of Slurm, by submitit, that go on at their checkpoint however often they are interrupted."""

import os
import signal
import sys
from collections.abc import Callable

from ..errors import ConfigError, UserError, first_line, look_up_option, run_cli
from .stopping import STOPPED_STATUS, exit_on_sigterm

#: What ``--slurm`` takes, as submitit names it.
KEYS = {
    "time": "timeout_min",
    "nodes": "nodes",
    "gpus": "gpus_per_node",
    "cpus": "cpus_per_task",
    "mem": "mem_gb",
    "partition": "slurm_partition",
    "account": "slurm_account",
    "qos": "slurm_qos",
    "constraint": "slurm_constraint",
}
# Slurm asks for the end up to 150 s before it: before the start it would kill the job.
_LEAST_MINUTES = 5
# submitit gives up after 3. A job that is requeued has trained since the last time.
_MAX_TIMEOUTS = 1000


def submit(function: Callable, args, request: str, folder, *, per_gpu: bool, cluster="slurm"):
    """Submit ``function(args)`` as a job, and print its id and where its log is.

    Args:
        function: of a module; it stops on SIGTERM with ``STOPPED_STATUS``, and goes on when it is
            called again. It returns an exit status.
        request: ``KEY=VALUE,...`` of ``KEYS``.
        folder: for the logs and submitit's files, which all machines see.
        per_gpu: call it in a process per GPU, each a worker of one training; False: per machine.
        cluster: of submitit; ``local`` runs the job on this machine.

    Returns:
        submitit.Job.

    Raises:
        ConfigError: the request is malformed.
        UserError: Slurm is not here, or refuses the job.
    """
    parameters = parse_request(request)
    import submitit

    os.environ["PYTHONPATH"] = os.pathsep.join(sys.path)  # The job imports what is imported here.
    try:
        executor = submitit.AutoExecutor(folder, cluster, slurm_max_num_timeout=_MAX_TIMEOUTS)
        processes = parameters.get("gpus_per_node", 1) if per_gpu else 1
        name = "unet-sharp-det"
        executor.update_parameters(name=name, tasks_per_node=processes, **parameters)
        job = executor.submit(Requeued(function, args, per_gpu))
    except submitit.core.utils.FailedJobError as error:
        raise UserError(f"Slurm refuses the job ({first_line(error)}). Change --slurm.") from error
    except RuntimeError as error:
        raise UserError(
            "There is no srun on this machine. Give --slurm where Slurm takes jobs."
        ) from error
    print(f"Job {job.job_id}. Its log: {job.paths.stdout}")
    return job


def parse_request(text: str) -> dict[str, int | str]:
    """Return the parameters of submitit's ``update_parameters`` that ``KEY=VALUE,...`` asks for.

    Raises:
        ConfigError: it is malformed, or ``time`` is missing or too short.
    """
    parameters = {}
    for item in text.split(","):
        key, _, value = item.partition("=")
        name = KEYS[look_up_option(key, KEYS, "--slurm", ConfigError)]
        is_text = name.startswith("slurm_")
        if not (value if is_text else value.isdecimal() and int(value)):
            raise ConfigError(f"--slurm: '{item}' has no value of its kind. Write time=60,gpus=2.")
        parameters[name] = value if is_text else int(value)
    if parameters.get("timeout_min", 0) < _LEAST_MINUTES:
        raise ConfigError(
            f"--slurm: a job needs a limit of {_LEAST_MINUTES} minutes or more. Give it: time=60."
        )
    return parameters


class Requeued:
    """``function(args)`` in a process of a job.

    When the time is nearly up, or with ``PreemptParameters=send_user_signal`` when the job is
    preempted, Slurm sends SIGUSR2: the function stops at a checkpoint, and submitit requeues the
    job. On SIGTERM the function stops, too. Slurm then ends the job and may requeue it: a process
    that ended before would be a job that failed.
    """

    def __init__(self, function: Callable, args, per_gpu: bool):
        self._function, self._args, self._per_gpu = function, args, per_gpu

    def __call__(self) -> None:
        from submitit.helpers import TorchDistributedEnvironment

        requeue = signal.getsignal(signal.SIGUSR2)
        exit_on_sigterm()
        signal.signal(signal.SIGUSR2, lambda *_: signal.raise_signal(signal.SIGTERM))
        received = _note_signals()
        if self._per_gpu:  # It chooses its GPU itself.
            TorchDistributedEnvironment().export(set_cuda_visible_devices=False)
        try:
            run_cli(lambda: self._function(self._args))
        except SystemExit as end:
            if end.code == STOPPED_STATUS and signal.SIGUSR2 in received():
                requeue(signal.SIGUSR2, None)  # In the first process, which it ends.
            elif end.code == STOPPED_STATUS and signal.SIGTERM in received():
                signal.pause()
            elif end.code:
                raise

    def checkpoint(self):
        """Return what submitit runs when the job is requeued."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def _note_signals() -> Callable[[], bytes]:
    """Return a function that tells which signals came so far, whoever handles them."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    noted = bytearray()

    def received() -> bytes:
        try:
            noted.extend(os.read(reader, 2**16))
        except BlockingIOError:
            pass
        return bytes(noted)

    return received

"""Units of work on Dask's workers: processes of this machine, or of a cluster.

Each worker loads the model once, opens files by their paths, and writes outputs itself; so all need
the same folders. This process looks which planes files have, keeps the records, and joins the
blocks of large images.
"""

import contextlib
import copy
import functools
import logging
import os
import pickle
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import cloudpickle
import torch

from ..errors import ConfigError, UserError, look_up_option
from ..images.intensity import PreparedImage
from ..images.source import ImageSource
from ..prediction.tile_grid import Tile
from .images import ImageWork
from .inputs import InputFile
from .records import ImageRecord
from .units import Log, Outcome, Outline, Plane, chunks_of, find, write

if TYPE_CHECKING:
    from ..masks.instances import SparseInstances

#: Planes of more pixels are found in blocks of tiles, by many workers.
LARGE = 1 << 24
#: Units in flight per thread of the workers: one runs, the next is there when it ends.
_AHEAD = 2
# Units run in a thread, whose memory glibc else keeps apart, and gives back after each network.
_WORKERS_ENVIRONMENT = {"MALLOC_ARENA_MAX": "1"}
_TIMEOUT = 10.0  # seconds
#: How often a plane that fails is tried: a file system may fail for a moment.
TRIES = 3
#: Seconds after which a unit hangs: a worker that takes longer ends itself, as if it had died.
LIMIT = 3600.0
#: Seconds between looks whether there is a worker.
PATIENCE = 60.0

logger = logging.getLogger(__name__)


class KilledError(UserError):
    """Workers died of a unit; those of others may be among them."""


@contextlib.contextmanager
def open_client(where: str) -> Iterator:
    """Connect to Dask, and print the address of its dashboard.

    Args:
        where: ``local`` (a worker per GPU, or per core), ``local:4``; ``slurm``, ``slurm:4`` (4
            jobs, of the settings in dask-jobqueue's ``jobqueue.yaml``); or the address of a
            scheduler, like ``tcp://10.0.0.1:8786``.

    Yields:
        distributed.Client: all is closed in the end, but a scheduler of an address.

    Raises:
        ConfigError: it is none of these.
        UserError: there is no scheduler, or Slurm refuses the jobs.
    """
    from distributed import Client

    logging.getLogger("distributed").setLevel(logging.ERROR)
    if "://" in where:
        try:
            client = Client(where, timeout=_TIMEOUT)
        except (OSError, ValueError) as error:
            raise UserError(
                f"--dask {where}: no scheduler answers ({error}). Start one: dask scheduler"
            ) from error
        with client, _watched(client, f"Start one: dask worker {where} --nthreads 1"):
            yield client
        return
    kind, _, count = where.partition(":")
    look_up_option(kind, ["local", "slurm"], "--dask", ConfigError)
    if count and not (count.isdecimal() and int(count)):
        raise ConfigError(f"--dask {where}: write a number above 0 after the colon.")
    remedy = "The reason: squeue --me" if kind == "slurm" else "See the dashboard."
    with _cluster(kind, int(count or 0)) as cluster, Client(cluster) as client:
        with _watched(client, remedy):
            yield client


def _cluster(kind: str, count: int):
    if kind == "local":
        from distributed import LocalCluster

        count = count or torch.cuda.device_count() or len(os.sched_getaffinity(0))
        return LocalCluster(
            n_workers=count,
            threads_per_worker=1,
            silence_logs=logging.ERROR,
            dashboard_address="127.0.0.1:8787",
            env=_WORKERS_ENVIRONMENT,
        )
    return _slurm_cluster(count or 1)


def _slurm_cluster(jobs: int):
    from dask_jobqueue import SLURMCluster

    try:
        cluster = SLURMCluster()
    except ValueError as error:
        raise _refused(str(error).strip().splitlines()[0].rstrip(":")) from error
    for _ in range(jobs):
        cluster.worker_spec |= cluster.new_worker_spec()
    try:
        cluster.sync(cluster._correct_state)  # ``scale`` would log errors, and the run would wait.
    except (OSError, RuntimeError) as error:
        logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # It has the same of each job.
        cluster._created.clear()  # Jobs that never began would fail the close.
        cluster.close()
        raise _refused(str(error).strip().splitlines()[-1]) from error
    return cluster


def _refused(reason: str) -> UserError:
    return UserError(
        f"--dask slurm: no job can be submitted ({reason}). See ~/.config/dask/jobqueue.yaml."
    )


@contextlib.contextmanager
def _watched(client, remedy: str) -> Iterator:
    """Print the dashboard's address, and warn when no worker is there; ``remedy`` is what to do."""
    print(f"Dask's dashboard: {client.dashboard_link}")
    ended = threading.Event()

    def watch() -> None:
        before = 1
        while not ended.wait(PATIENCE):
            with contextlib.suppress(Exception):  # A lost scheduler is told by the run.
                workers = len(client.nthreads())
                if before and not workers:
                    logger.warning(f"--dask: the run waits for a worker, none is there. {remedy}")
                before = workers

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield client
    finally:
        ended.set()


class DaskUnits:
    """Does the units of a run on Dask's workers; see :func:`.predict_files`.

    A unit of a worker that dies, or takes too long, is done by another one. A unit that ends
    several of them fails as its files would, and the others go on.
    """

    def __init__(self, client, load: Callable):
        """
        Args:
            client: of ``distributed``.
            load: returns the :class:`.Predictor`; it is called by every worker.
        """
        self._client = client
        self._load = load
        self._pending: dict = {}  # Dask's future -> planes and how often they were tried

    def __call__(self, work: ImageWork, folder: Path, planes: Iterable[Plane], log: Log) -> None:
        """As :func:`.run_here`."""
        from distributed.comm import CommClosedError

        self._recipe = cloudpickle.dumps((self._load, work.read_options, work.pixel_size))
        self._work, self._folder, self._log = work, folder.absolute(), log
        try:
            self._do(planes)
        except (CancelledError, CommClosedError, TimeoutError) as error:
            raise UserError(
                f"The connection to Dask's scheduler was lost ({type(error).__name__}). Give the "
                "same command again, and it goes on."
            ) from error

    def _do(self, planes: Iterable[Plane]) -> None:
        try:
            for chunk in chunks_of(planes, self._work.predictor.options.batch_size):
                small = [plane for plane in chunk if plane.pixels <= LARGE]
                if small:
                    self._submit(small, tries=1)
                    self._collect(_AHEAD * max(1, sum(self._client.nthreads().values())))
                for plane in chunk:
                    if plane.pixels > LARGE:
                        self._do_in_blocks(plane)
            self._collect(0)
        finally:
            self._client.cancel(list(self._pending))
            self._pending.clear()

    def _submit(self, chunk: Sequence[Plane], tries: int) -> None:
        records = [plane.record for plane in chunk]
        for plane in chunk:
            self._log.begin(plane)
        unit = _do, self._recipe, records, self._folder
        future = self._client.submit(_limited, LIMIT, *unit, pure=False)
        self._pending[future] = (chunk, tries)

    def _collect(self, most: int) -> None:
        """Wait until at most so many units are in flight."""
        from distributed import wait

        while len(self._pending) > most:
            done, _ = wait(list(self._pending), return_when="FIRST_COMPLETED")
            for future in done:
                chunk, tries = self._pending.pop(future)
                try:
                    outcomes = _result(future)
                except KilledError as error:
                    outcomes = [error] * len(chunk)
                self._take(chunk, tries, outcomes)

    def _take(self, chunk: Sequence[Plane], tries: int, outcomes: Sequence[Outcome]) -> None:
        for plane, outcome in zip(chunk, outcomes, strict=True):
            # Dask has tried what ends workers by itself, but not each plane of it alone.
            is_final = isinstance(outcome, KilledError) and len(chunk) == 1
            if isinstance(outcome, Exception) and tries < TRIES and not is_final:
                self._submit([plane], tries + 1)
            else:
                self._log.advance(plane.weight)
                self._log.end(plane, outcome)

    def _do_in_blocks(self, plane: Plane) -> None:
        predictor = copy.copy(self._work.predictor)
        predictor.find_blocks = functools.partial(self._find_blocks, plane.record)
        (found,) = find(predictor.predict_many, [plane], self._log.advance)
        self._log.begin(plane)
        self._log.end(plane, write(self._work, self._folder, plane, found))

    def _find_blocks(
        self,
        record: ImageRecord,
        image: PreparedImage,
        blocks: Sequence[Sequence[Tile]],
        scale: float,
    ) -> Iterator[list["SparseInstances"]]:
        """As :meth:`.Predictor.find_blocks`."""
        unit = LIMIT, _find_block, self._recipe, record, replace(image, source=None)
        futures = [
            self._client.submit(_limited, *unit, block, scale, pure=False, retries=TRIES - 1)
            for block in blocks
        ]
        try:
            for future in futures:
                yield _result(future)
        finally:
            self._client.cancel(futures)


def _result(future):
    """Return the result of a unit, or raise its error."""
    from distributed import KilledWorker

    try:
        return future.result()
    except KilledWorker as error:
        raise KilledError(
            f"ended every worker that tried it, or took them more than {LIMIT / 60:g} minutes. "
            "Give workers more memory, or smaller --tile-size."
        ) from error


# What follows runs in the workers.


def _limited(limit: float, do: Callable, *args):
    """Do a unit; the process ends if it takes longer than so many seconds.

    A thread that hangs, as in a read from a share, can be ended by no other means.
    """
    timer = threading.Timer(limit, os._exit, (1,))
    timer.daemon = True
    timer.start()
    try:
        return do(*args)
    finally:
        timer.cancel()


@functools.lru_cache(maxsize=1)
def _work_of(recipe: bytes) -> ImageWork:
    load, *others = pickle.loads(recipe)
    return ImageWork(load(), *others)


@functools.lru_cache(maxsize=1)
def _open(recipe: bytes, source: str, stamp: str) -> dict[str, ImageSource]:
    """Open a file as it is at its stamp; blocks of an image and planes of a stack open it once."""
    path = Path(source)
    return _work_of(recipe).open(InputFile(path, path.parent))


def _source_of(recipe: bytes, record: ImageRecord) -> ImageSource:
    return _open(recipe, record.source, record.stamp)[record.plane]


def _do(recipe: bytes, records: Sequence[ImageRecord], folder: Path) -> list[Outcome]:
    """Find and write the objects of some planes."""
    work = _work_of(recipe)
    planes = [
        Plane(
            *(record, 0.0, record.source),
            Outline((record.height, record.width), functools.partial(_source_of, recipe, record)),
        )
        for record in records
    ]
    found = find(work.find, planes, lambda weight: None)
    return [write(work, folder, *each) for each in zip(planes, found, strict=True)]


def _find_block(
    recipe: bytes,
    record: ImageRecord,
    image: PreparedImage,
    block: Sequence[Tile],
    scale: float,
) -> list["SparseInstances"]:
    source = _source_of(recipe, record)
    if image.image_format == "CHANNELS":
        source = source.with_all_channels()
    return _work_of(recipe).predictor.find_block(replace(image, source=source), block, scale)

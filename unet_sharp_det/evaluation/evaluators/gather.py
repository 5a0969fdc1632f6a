"""What the evaluators share when several processes evaluate."""

import itertools

from detectron2.utils import comm


def gather_on_main(items: list, distributed: bool) -> list | None:
    """Return the items of all ranks in the order of the ranks; None on all but the main process.

    Not ``distributed``, every process gets its own ``items``.
    """
    if not distributed:
        return items
    comm.synchronize()
    gathered = comm.gather(items, dst=0)
    return list(itertools.chain(*gathered)) if comm.is_main_process() else None

"""Training images of rare looks, drawn more often."""

import logging
from collections import Counter
from collections.abc import Sequence

from ..errors import ConfigError
from ..images.decoding import read_picture
from ..images.looks import guess_look

logger = logging.getLogger(__name__)


def repeat_rare_looks(records: Sequence[dict], power: float) -> list[dict]:
    """Repeat dataset dicts, so that images of rare looks are drawn more often.

    An image of a look with n images is repeated (N / n) ** power times, rounded, N the number of
    images of the most common look.

    Args:
        records: with ``file_name``; ``look`` is guessed from the image where it is missing.
        power: from 0, each image once, to 1, each look as often.
    """
    if not 0 <= power <= 1:
        raise ConfigError(f"DATALOADER.BALANCE_LOOKS is {power}, but must lie in 0..1.")
    if power == 0:
        return list(records)
    looks = [each.get("look") or guess_look(read_picture(each["file_name"])) for each in records]
    counts = Counter(looks)
    largest = max(counts.values())
    repeats = {look: round((largest / count) ** power) for look, count in counts.items()}
    logger.info(f"DATALOADER.BALANCE_LOOKS: images by look {dict(counts)}, drawn x {repeats}.")
    return [each for each, look in zip(records, looks, strict=True) for _ in range(repeats[look])]

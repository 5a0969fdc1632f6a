"""Percentiles of an image of any size, equal to NumPy's, from windows of bounded size."""

from collections.abc import Callable, Iterable, Iterator

import numpy as np

IN_MEMORY_VALUES = 2**26  # below which values of more than 16 bits are collected
_WINDOW_VALUES = 2**22
_DIGIT_BITS = 16


def row_bands(shape: tuple[int, int], channels: int) -> Iterator[tuple[slice, slice]]:
    """Yield (rows, columns) that cut an image (height, width) into bands of bounded size."""
    height, width = shape
    step = max(1, _WINDOW_VALUES // (width * channels))
    for top in range(0, height, step):
        yield slice(top, min(height, top + step)), slice(0, width)


def small_histogram(windows: Iterable[np.ndarray], dtype: np.dtype) -> np.ndarray:
    """Return how often each value of an integer type of 8 or 16 bit occurs, from its lowest."""
    counts = np.zeros(2 ** (8 * dtype.itemsize), np.int64)
    for window in windows:
        counts += np.bincount(_unsigned(window).reshape(-1), minlength=len(counts))
    return counts


def percentiles_of_counts(counts: np.ndarray, dtype: np.dtype, percentiles) -> np.ndarray:
    """Return ``np.percentile(values, percentiles)``, bit for bit, of a :func:`small_histogram`."""
    ends = np.cumsum(counts)

    def at(rank: int):
        return _from_unsigned(np.searchsorted(ends, rank, side="right"), dtype)

    return _interpolate(int(ends[-1]), at, dtype, percentiles)


def percentiles_of_windows(
    windows: Callable[[], Iterable[np.ndarray]], count: int, dtype: np.dtype, percentiles
) -> np.ndarray:
    """Return ``np.percentile(values, percentiles)`` of values of 16 bit or more, bit for bit.

    Few values are collected. Of many, every order statistic is found exactly, digit by digit of
    16 bits: two passes for 32 bits, four for 64.

    Args:
        windows: called for each pass; yields all values.
        count: how many values there are.
        dtype: their type.
        percentiles: 0 to 100.
    """
    if count <= IN_MEMORY_VALUES:
        return np.percentile(np.concatenate([w.reshape(-1) for w in windows()]), percentiles)
    virtual = [_virtual_rank(count, p, dtype) for p in percentiles]
    ranks = {min(int(v) + extra, count - 1) for v in virtual for extra in (0, 1)}
    found = _order_statistics(windows, ranks, dtype)
    return _interpolate(count, found.__getitem__, dtype, percentiles)


def _order_statistics(windows, ranks: set[int], dtype: np.dtype) -> dict[int, np.generic]:
    """Return the values of these ranks, from 0."""
    bits = 8 * dtype.itemsize
    known = {rank: (0, rank) for rank in ranks}  # the digits so far, the rank among those alike
    for shift in range(bits - _DIGIT_BITS, -1, -_DIGIT_BITS):
        counts = {digits: np.zeros(2**_DIGIT_BITS, np.int64) for digits, _ in known.values()}
        for window in windows():
            keys = _unsigned(window).reshape(-1)
            integer = keys.dtype.type
            for digits, histogram in counts.items():
                alike = keys
                if shift + _DIGIT_BITS < bits:
                    alike = keys[keys >> integer(shift + _DIGIT_BITS) == integer(digits)]
                low = (alike >> integer(shift)) & integer(2**_DIGIT_BITS - 1)
                histogram += np.bincount(low.astype(np.int64), minlength=2**_DIGIT_BITS)
        for rank, (digits, inner) in known.items():
            ends = np.cumsum(counts[digits])
            digit = int(np.searchsorted(ends, inner, side="right"))
            before = int(ends[digit - 1]) if digit else 0
            known[rank] = ((digits << _DIGIT_BITS) | digit, inner - before)
    return {rank: _from_unsigned(digits, dtype) for rank, (digits, _) in known.items()}


def _unsigned(values: np.ndarray) -> np.ndarray:
    """Return unsigned integers in the order of the values, and of their size."""
    bits = 8 * values.dtype.itemsize
    raw = np.ascontiguousarray(values).view(f"u{values.dtype.itemsize}")
    top = raw.dtype.type(1 << (bits - 1))
    if values.dtype.kind == "i":
        return raw ^ top
    if values.dtype.kind == "f":  # negative numbers run backwards
        everything = raw.dtype.type((1 << bits) - 1)
        return np.where(raw & top, raw ^ everything, raw | top)
    return raw


def _from_unsigned(key: int, dtype: np.dtype) -> np.generic:
    bits, key = 8 * dtype.itemsize, int(key)
    top = 1 << (bits - 1)
    if dtype.kind == "i":
        key ^= top
    elif dtype.kind == "f":
        key = key ^ top if key & top else key ^ ((1 << bits) - 1)
    return np.array([key], f"u{dtype.itemsize}").view(dtype)[0]


def _virtual_rank(count: int, percentile: float, dtype: np.dtype):
    """Return where a percentile lies among the sorted values, computed as NumPy does."""
    hundred = dtype.type(100) if dtype.kind == "f" else 100
    return (count - 1) * np.true_divide(np.asarray([percentile]), hundred)[0]


def _interpolate(count: int, at: Callable[[int], np.generic], dtype: np.dtype, percentiles):
    results = []
    for percentile in percentiles:
        virtual = _virtual_rank(count, percentile, dtype)
        below = int(virtual)
        pair = np.array([at(below), at(min(below + 1, count - 1))], dtype)
        # NumPy's own interpolation between two values: its rounding differs between versions.
        results.append(np.quantile(pair, [virtual - below])[0])
    return np.array(results)

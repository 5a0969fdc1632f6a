"""Formats of microscopes that are not read, by the suffix of their files."""

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePath

_NOT_READ = {
    **{".czi": "Zeiss CZI", ".zvi": "Zeiss ZVI", ".nd2": "Nikon ND2", ".lif": "Leica LIF"},
    **{".lof": "Leica LOF", ".xlef": "Leica XLEF", ".scn": "Leica SCN", ".vsi": "Olympus VSI"},
    **{".ets": "Olympus ETS", ".oib": "Olympus OIB", ".oif": "Olympus OIF", ".oir": "Olympus OIR"},
    **{".ndpis": "Hamamatsu NDPIS", ".vms": "Hamamatsu VMS", ".mrxs": "3DHISTECH MRXS"},
    **{".dcm": "DICOM", ".dicom": "DICOM", ".ims": "Imaris", ".dv": "DeltaVision"},
    **{".r3d": "DeltaVision", ".isyntax": "Philips iSyntax", ".bif": "Ventana BIF"},
    **{".ics": "ICS", ".ids": "ICS", ".sld": "SlideBook", ".mrc": "MRC", ".flex": "Opera Flex"},
}
CONVERT = (
    "Convert to OME-TIFF: in Fiji by File > Import > Bio-Formats and Save As > OME-TIFF, or by "
    "the command bfconvert of Bio-Formats."
)


def format_not_read(path) -> str | None:
    """Return the name of a file's format if its suffix is that of one that is not read."""
    return _NOT_READ.get(PurePath(path).suffix.lower())


def count_not_read(paths: Iterable) -> str:
    """Return how many files of each such format there are, and what to do; ``""`` of none."""
    counts = Counter(filter(None, map(format_not_read, paths)))
    if not counts:
        return ""
    kinds = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    return f"Files that are not read: {kinds}. {CONVERT}"

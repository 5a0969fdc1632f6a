"""Scans in three dimensions: read in one orientation, written in that of their file."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "reading": ["read_labels", "read_volume"],
        "volume": ["Geometry", "Volume", "resample", "resample_to"],
        "writing": ["write_volume"],
    },
)

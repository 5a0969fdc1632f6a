"""A trained model as one file for other programs; see docs/EXPORT.md."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "formats": ["FORMATS"],
        "model_files": ["ExportRequest", "export_model"],
        "probability_model": ["ProbabilityModel"],
    },
)

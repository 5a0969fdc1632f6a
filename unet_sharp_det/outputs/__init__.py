"""The files that hold the objects of an image; docs/OUTPUTS.md says what each holds."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "coco": ["merge_coco"],
        "write": [
            *("DEFAULT_OUTPUTS", "OUTPUTS", "Output", "OutputContext"),
            *("output_paths", "write_outputs"),
        ],
    },
)

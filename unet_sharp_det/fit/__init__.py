"""From an imported data set to a model that fits it: ``unet-sharp-det fit``."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "facts": ["Facts", "Machine", "Setting"],
        "rules": ["settings_for"],
        "run": ["fit"],
    },
)

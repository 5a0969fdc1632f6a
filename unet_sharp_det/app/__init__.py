"""A web page on which a trained model finds objects in one image at a time; needs gradio.

``server`` starts it, ``guard`` says which requests reach it, ``page`` lays it out. The other
modules don't know gradio: ``analysis`` (what is found and measured), ``isolation`` (the same in
processes of their own), ``presentation`` (pictures, figures and text), ``sessions`` (what is kept
of each open page).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "analysis": ["LOWEST_SCORE", "Analyser"],
        "isolation": ["IsolatedAnalyser"],
        "server": ["serving"],
    },
)

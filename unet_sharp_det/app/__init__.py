"""A web page on which trained models find and measure the objects of images; needs FastAPI.

``server`` starts it, ``guard`` says which requests are answered, ``routes`` answers them, and
``static`` is the page. What is found: ``analysis`` and ``tiles``, which ``isolation`` runs in
processes of their own. ``queue`` says who is next, ``sessions`` what is kept of each visitor.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "analysis": ["Analyser"],
        "cards": ["read_card"],
        "isolation": ["IsolatedAnalyser"],
        "routes": ["Model"],
        "server": ["serving"],
    },
)

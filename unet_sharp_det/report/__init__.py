"""One HTML file about the results of one or several runs, see :func:`page.write_report`."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"page": ["write_report"]}
)

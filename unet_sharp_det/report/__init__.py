"""One HTML file about the results of one or several runs, see :func:`page.write_report`.

It is imported when it is asked for: reading runs needs neither jinja2 nor plotly.
"""

__all__ = ["write_report"]


def __getattr__(name: str):
    if name == "write_report":
        from .page import write_report

        return write_report
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

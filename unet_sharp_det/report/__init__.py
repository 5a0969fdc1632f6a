"""One HTML file about the results of one or several runs, see :func:`write_report`."""

from unet_sharp_det.report.page import write_report

__all__ = ["write_report"]

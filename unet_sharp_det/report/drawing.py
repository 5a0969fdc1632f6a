"""What all figures share: look, lines and points with intervals, and how they become files."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

import cv2
import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..files import atomic_path
from .estimates import Estimate

# Of Okabe and Ito's palette, which colour-blind readers can tell apart; a marker beside each.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "D", "s", "P", "^", "X")
DASHES = ("solid", "dashed", "dotted", "dashdot")
NEUTRAL = "#808080"

_STYLE = {
    "font.size": 9,
    "axes.facecolor": "none",
    "axes.edgecolor": NEUTRAL,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": NEUTRAL,
    "grid.alpha": 0.25,
    "xtick.color": NEUTRAL,
    "ytick.color": NEUTRAL,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
}
_DPI = 150
_QUALITY = 88
_PIXELS_PER_INCH = 115  # of the widest a figure is shown
_SVG, _XLINK = "http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"
ElementTree.register_namespace("", _SVG)
ElementTree.register_namespace("xlink", _XLINK)


@dataclass(frozen=True)
class Plot:
    """A figure of a report.

    Attributes:
        key: its id on the page, and the stem of its files.
        title: a heading of a few words.
        caption: what is shown, of how many images or objects, and how intervals were made.
        figure: matplotlib's, without pyplot: no display is needed.
        hints: by the gid of an artist: what its markers, or its bar, say when they are pointed at.
    """

    key: str
    title: str
    caption: str
    figure: Figure
    hints: dict[str, list[str]] = field(default_factory=dict)

    @property
    def axes(self) -> Axes:
        return self.figure.axes[0]

    @property
    def width(self) -> int:
        """The most CSS pixels that a page gives it."""
        return round(self.figure.get_figwidth() * _PIXELS_PER_INCH)

    def hint(self, artist: Artist, texts: Sequence[str]) -> None:
        """Add to ``hints``."""
        artist.set_gid(f"hints-{len(self.hints)}")
        self.hints[artist.get_gid()] = list(texts)

    def svg(self) -> str:
        """Return SVG to stand in an HTML page, whose style sheet gives its text colour and font."""
        root = ElementTree.fromstring(self._render("svg", "none", fonts="none"))
        for name in ("metadata", "defs"):  # That first defs is a style of the whole page.
            root.remove(root.find(f"{{{_SVG}}}{name}"))
        for name in ("width", "height", "version"):
            del root.attrib[name]
        root.set("style", "stroke-linejoin: round; stroke-linecap: butt")
        for group in root.iter(f"{{{_SVG}}}g"):
            texts = self.hints.get(group.attrib.pop("id", ""))
            if texts:
                marks = list(group.iter(f"{{{_SVG}}}use")) or [group]
                for mark, text in zip(marks, texts, strict=True):
                    ElementTree.SubElement(mark, f"{{{_SVG}}}title").text = text
        return ElementTree.tostring(root, encoding="unicode")

    def save(self, folder) -> None:
        """Write ``<key>.png`` and ``<key>.svg`` for a paper, atomically.

        Raises:
            UserError: they cannot be written.
        """
        for kind in ("png", "svg"):
            with atomic_path(Path(folder) / f"{self.key}.{kind}") as temporary:
                temporary.write_bytes(self._render(kind, "white", fonts="path"))

    def _render(self, kind: str, ground: str, fonts: str) -> bytes:
        content, style = io.BytesIO(), {"svg.fonttype": fonts, "svg.hashsalt": self.key}
        with matplotlib.rc_context({**_STYLE, **style}):
            self.figure.savefig(content, format=kind, dpi=_DPI, facecolor=ground)
        return content.getvalue()


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of a size in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def new_plot(
    key: str, title: str, caption: str, x: str, y: str, *, size=(5.4, 3.2), **axes
) -> Plot:
    """Return a plot of a size in inches with titled axes; ``axes``: of them, such as ``ylim``."""
    with matplotlib.rc_context(_STYLE):
        figure = new_figure(*size)
        figure.add_subplot(xlabel=x, ylabel=y, **axes)
    return Plot(key, title, caption, figure)


def color_of(number: int) -> str:
    """Return the colour of a run, by its number from 0."""
    return COLORS[number % len(COLORS)]


def marker_of(number: int) -> str:
    """Return the marker of a run, another one where colours repeat."""
    return MARKERS[(number + number // len(COLORS)) % len(MARKERS)]


def plain(text) -> str:
    """Return a text that matplotlib takes for no formula, nor for a label to be hidden."""
    text = str(text).replace("$", r"\$")
    return f"\N{ZERO WIDTH SPACE}{text}" if text.startswith("_") else text


def add_legend(plot: Plot) -> None:
    """Name what is drawn below the axes, if there are several things."""
    handles, labels = plot.axes.get_legend_handles_labels()
    if len(handles) > 1:
        plot.figure.legend(handles, labels, loc="outside lower left", ncols=2, frameon=False)


def add_line(
    plot: Plot, x: Sequence[float], estimates: Sequence[Estimate], name: str, number: int
) -> None:
    """Draw a run's estimates over x as a line, with a band from their lower to upper bounds."""
    low, high = ([getattr(each, bound) for each in estimates] for bound in ("low", "high"))
    color = color_of(number)
    if np.isfinite([low, high]).all():
        plot.axes.fill_between(x, low, high, color=color, alpha=0.18, linewidth=0)
    add_points(plot, x, estimates, name, number, whiskers=False, linestyle="solid")


def add_points(
    plot: Plot,
    places: Sequence[float],
    estimates: Sequence[Estimate],
    name: str,
    number: int,
    *,
    horizontal: bool = False,
    whiskers: bool = True,
    linestyle: str = "none",
) -> None:
    """Draw a run's estimates as points with whiskers, at places on the other axis."""
    is_defined = np.isfinite([each.value for each in estimates])
    estimates = [each for each, defined in zip(estimates, is_defined, strict=True) if defined]
    places, values = np.asarray(places)[is_defined], np.array([each.value for each in estimates])
    x, y = (values, places) if horizontal else (places, values)
    style = {"color": color_of(number), "marker": marker_of(number), "linestyle": linestyle}
    (points,) = plot.axes.plot(x, y, label=plain(name), **style)
    plot.hint(
        points, [f"{name}: {each.value:.2f}, {each.interval()}".rstrip(", ") for each in estimates]
    )
    if whiskers:
        low, high = ([getattr(each, bound) for each in estimates] for bound in ("low", "high"))
        lengths = np.nan_to_num([values - low, high - values]).clip(min=0)
        error = {"xerr" if horizontal else "yerr": lengths}
        plot.axes.errorbar(x, y, fmt="none", ecolor=color_of(number), capsize=2, **error)


def data_uri(picture: np.ndarray) -> str:
    """Encode uint8 (H, W, 3) in RGB as WebP in a data URI."""
    _, encoded = cv2.imencode(".webp", picture[..., ::-1], [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])
    return "data:image/webp;base64," + base64.b64encode(encoded.tobytes()).decode("ascii")

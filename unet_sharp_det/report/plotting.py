"""What all figures of a report share: their look, their frame, and lines with intervals."""

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go

from .estimates import Estimate

# Of Okabe and Ito's palette, which colour-blind readers can tell apart; a symbol beside each.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
SYMBOLS = ("circle", "diamond", "square", "cross", "triangle-up", "x")
DASHES = ("solid", "dash", "dot", "dashdot")
NEUTRAL = "#808080"


@dataclass(frozen=True)
class Plot:
    """A figure of the page.

    Attributes:
        key: its id on the page.
        title: a heading of a few words.
        caption: what is shown, of how many images or objects, and how intervals were made.
        figure: plotly's; colours of text, grid and ground are the page's.
        height: in CSS pixels.
    """

    key: str
    title: str
    caption: str
    figure: go.Figure
    height: int = 360


def color_of(number: int) -> str:
    """Return the colour of a run, by its number from 0."""
    return COLORS[number % len(COLORS)]


def symbol_of(number: int) -> str:
    """Return the marker of a run, another one where colours repeat."""
    return SYMBOLS[(number + number // len(COLORS)) % len(SYMBOLS)]


def plain(text) -> str:
    """Escape a text that plotly would take for HTML: names of files and of runs."""
    return html.escape(str(text))


def new_figure(x_title: str, y_title: str, **layout) -> go.Figure:
    """Return an empty figure with titled axes and its legend below."""
    figure = go.Figure()
    figure.update_layout(
        template="none",
        margin={"l": 56, "r": 12, "t": 12, "b": 48},
        legend={"orientation": "h", "x": 0, "y": -0.22, "yanchor": "top"},
        hovermode="closest",
        xaxis={"title": {"text": x_title, "standoff": 8}, "automargin": True, "zeroline": False},
        yaxis={"title": {"text": y_title, "standoff": 8}, "automargin": True, "zeroline": False},
    )
    return figure.update_layout(**layout)


def add_line(
    figure: go.Figure,
    x: Sequence[float],
    estimates: Sequence[Estimate],
    name: str,
    number: int,
    *,
    with_band: bool = True,
) -> None:
    """Draw a run's estimates over x as a line, with a band from their lower to upper bounds."""
    color, group = color_of(number), str(number)
    values, low, high = (
        [getattr(estimate, part) for estimate in estimates] for part in ("value", "low", "high")
    )
    if with_band and np.isfinite([low, high]).all():
        figure.add_scatter(
            x=[*x, *reversed(x)],
            y=[*high, *reversed(low)],
            fill="toself",
            fillcolor=transparent(color, 0.18),
            line={"width": 0},
            hoverinfo="skip",
            showlegend=False,
            legendgroup=group,
            mode="lines",
        )
    figure.add_scatter(
        x=list(x),
        y=values,
        customdata=[[interval_text(estimate)] for estimate in estimates],
        hovertemplate=f"{plain(name)}<br>%{{x}}: %{{y:.2f}} %{{customdata[0]}}<extra></extra>",
        mode="lines+markers",
        line={"color": color, "width": 2},
        marker={"symbol": symbol_of(number), "size": 7},
        name=plain(name),
        legendgroup=group,
    )


def add_points(
    figure: go.Figure,
    x: Sequence,
    estimates: Sequence[Estimate],
    name: str,
    number: int,
    *,
    horizontal: bool = False,
) -> None:
    """Draw a run's estimates as points with whiskers; ``x`` are categories or offsets of them."""
    values = [estimate.value for estimate in estimates]
    whiskers = {
        "type": "data",
        "symmetric": False,
        "array": [_length(e.high - e.value) for e in estimates],
        "arrayminus": [_length(e.value - e.low) for e in estimates],
        "color": color_of(number),
        "thickness": 1.5,
        "width": 4,
    }
    places = {"x": values, "y": list(x)} if horizontal else {"x": list(x), "y": values}
    value_axis = "x" if horizontal else "y"
    figure.add_scatter(
        **places,
        **{f"error_{value_axis}": whiskers},
        customdata=[[interval_text(estimate)] for estimate in estimates],
        hovertemplate=f"{plain(name)}<br>%{{{value_axis}:.2f}} %{{customdata[0]}}<extra></extra>",
        mode="markers",
        marker={"symbol": symbol_of(number), "size": 9, "color": color_of(number)},
        name=plain(name),
    )


def interval_text(estimate: Estimate, digits: int = 2) -> str:
    """Format the interval of an estimate as "[low, high]"; "" if it has none."""
    if not np.isfinite([estimate.low, estimate.high]).all():
        return ""
    return f"[{estimate.low:.{digits}f}, {estimate.high:.{digits}f}]"


def transparent(color: str, opacity: float) -> str:
    """Return a colour "#RRGGBB" as CSS with an opacity."""
    red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{opacity})"


def _length(value: float) -> float:
    return max(0.0, value) if np.isfinite(value) else 0.0

"""A model's card as a plain page."""

import html
import re
from pathlib import Path

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{name}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="/static/page.css">
<body class="card">
<p><a href="/">Back to the images</a></p>
{body}
</body>
</html>
"""
_LINK = re.compile(r"\[([^\]]*)\]\((?!https?:)[^)]*\)")


def read_card(cfg) -> str:
    """Return what there is to say of a model, as Markdown.

    Args:
        cfg: of :func:`~unet_sharp_det.checkpoints.config_of`. The card of ``NAME.pth`` is the file
            ``NAME.md`` beside it; without one it is what the config says.
    """
    weights, own = Path(cfg.MODEL.WEIGHTS), cfg.TEST.INSTANCES
    card = weights.with_suffix(".md")
    if card.is_file():
        return card.read_text(encoding="utf-8", errors="replace")
    size = cfg.INPUT.PIXEL_SIZE
    known = {
        "trained on": ", ".join(cfg.DATASETS.TRAIN) or "unknown",
        "classes": ", ".join(cfg.MODEL.CLASS_NAMES) or "those of the training",
        "network": cfg.MODEL.META_ARCHITECTURE,
        "channels": cfg.INPUT.FORMAT,
        "pixel size": f"{size:g} µm" if size else "unknown",
        "images are resized by": f"{cfg.INPUT.SCALE_TEST:g}",
        "score threshold": f"{own.SCORE_THRESHOLD:g}",
        "least area": f"{own.MIN_AREA} px²",
    }
    if cfg.MODEL.META_ARCHITECTURE == "SemanticSegmentor":
        known["probability threshold"] = f"{cfg.MODEL.SEM_SEG_HEAD.PROB_THRESHOLD:g}"
    rows = "".join(f"| {name} | {value} |\n" for name, value in known.items())
    return f"# {weights.name}\n\n| | |\n|---|---|\n{rows}"


def render_card(name: str, markdown: str) -> str:
    """Return the card of a model as HTML, without links to files that a browser cannot reach."""
    from markdown import markdown as to_html  # It takes a while.

    body = to_html(_LINK.sub(r"\1", markdown), extensions=["tables", "fenced_code"])
    return _PAGE.format(name=html.escape(name), body=body)

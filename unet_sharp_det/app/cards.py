"""A model's card as a plain page."""

import html
import re

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


def render_card(name: str, markdown: str) -> str:
    """Return the card of a model as HTML, without links to files that a browser cannot reach."""
    from markdown import markdown as to_html  # It takes a while.

    body = to_html(_LINK.sub(r"\1", markdown), extensions=["tables", "fenced_code"])
    return _PAGE.format(name=html.escape(name), body=body)

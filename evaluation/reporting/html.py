"""report.html: the sections of report.md in one file that needs nothing beside it; its tables sort."""

import base64
import re
from html import escape
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

from evaluation.reporting.markdown import OTHER_FIGURES

STYLE = (Path(__file__).with_name("report.css")).read_text(encoding="utf-8")
SCRIPT = (Path(__file__).with_name("report.js")).read_text(encoding="utf-8")


def html_page(title: str, sections: list[str]) -> str:
    """A whole page from sections in HTML; each heading of the second level that has an id stands in the contents."""
    body = "\n".join(sections)
    listed = re.findall(r'<section id="([^"]+)"><h2>(.*?)</h2>', body)
    contents = " ".join(f'<a href="#{name}">{heading}</a>' for name, heading in listed)
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
        f"<body><nav>{contents}</nav><main>{body}</main><script>{SCRIPT}</script></body></html>\n"
    )


def section_html(markdown: str, folder: Path) -> str:
    """Markdown of one or more sections as HTML; pictures that it names, relative to `folder`, stand in it."""
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("image", lambda renderer, tokens, place, options, env: _image(tokens[place], folder))
    parser.add_render_rule("table_open", lambda *_: '<div class="wide"><table>')
    parser.add_render_rule("table_close", lambda *_: "</table></div>")
    html = parser.render(markdown)
    parts = re.split(r"(?=<h2>)", html)
    return "".join(_section(part) if part.startswith("<h2>") else part for part in parts)


def _section(html: str) -> str:
    heading = re.sub(r"<[^>]+>|&\w+;", "", html[4 : html.index("</h2>")])
    name = re.sub(r"\W+", "-", heading.lower()).strip("-")
    folded = r"<details><summary>\1</summary>\2</details>"
    html = re.sub(rf"<h3>({OTHER_FIGURES})</h3>\s*(<ul>.*?</ul>)", folded, html, flags=re.DOTALL)
    return f'<section id="{name}">{html}</section>'


def _image(token: Token, folder: Path) -> str:
    """The drawing beside a picture, else the picture itself."""
    picture = folder / str(token.attrs["src"])
    drawing, title = picture.with_suffix(".svg"), escape(token.content)
    if drawing.is_file():
        inner = _inline(drawing.read_text(encoding="utf-8"))
    else:
        data = base64.b64encode(picture.read_bytes()).decode()
        inner = f'<img alt="{title}" src="data:image/png;base64,{data}">'
    return f'<figure role="img" aria-label="{title}">{inner}<figcaption>{title}</figcaption></figure>'


def _inline(svg: str) -> str:
    """A drawing of matplotlib without its head and in the colours of the page: what it has in black, and the grid."""
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    svg = svg.replace("#000000", "currentColor")
    return re.sub(r"stroke: #dddddd", "stroke: currentColor; stroke-opacity: 0.2", svg)

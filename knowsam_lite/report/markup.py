"""Pieces of HTML: all text is escaped here, and nowhere else."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape

CSS = """
:root { color-scheme: light dark; --ink: #1a1a1a; --quiet: #5f6368; --rule: #dfe1e5; --page: #fff;
  --card: #f6f7f9; --accent: #0072b2; --warn: #fff4d6; --warn-rule: #d99a00 }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8eaed; --quiet: #a3a9b1; --rule: #3a3f45; --page: #15181c; --card: #1f2429;
    --accent: #6cb8e6; --warn: #3a2f10; --warn-rule: #d99a00 }
}
* { box-sizing: border-box }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0 }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .4rem; padding-top: .8rem; border-top: 1px solid var(--rule) }
h3 { font-size: 1rem; margin: 1.2rem 0 .3rem }
p { margin: .4rem 0; max-width: 46rem }
small, .quiet, figcaption { color: var(--quiet) }
figure { margin: 0; min-width: 0 }
figcaption { font-size: .85rem; line-height: 1.4; margin-top: .3rem }
img, figure > .chart { display: block; width: 100%; height: auto }
img { border-radius: 4px } figure > .chart { max-width: 28rem }
.note { background: var(--warn); border-left: 5px solid var(--warn-rule); padding: .7rem 1rem; margin: 1rem 0;
  max-width: none; font-weight: 600 }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .6rem; padding: 0;
  margin: 1rem 0; list-style: none }
.facts li { background: var(--card); border-radius: 8px; padding: .6rem .8rem }
.facts b { display: block; font-size: 1.3rem; line-height: 1.3 }
.facts span { color: var(--quiet); font-size: .85rem; line-height: 1.35; display: block }
.scroll { overflow-x: auto; margin: .4rem 0 }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums }
th, td { padding: .35rem .9rem .35rem 0; border-bottom: 1px solid var(--rule); text-align: left;
  vertical-align: top; overflow-wrap: normal }
thead th { color: var(--quiet); font-weight: 600 }
.scores td, .scores th { white-space: nowrap }
.scores th:first-child { position: sticky; left: 0; background: var(--page) }
.scores td small { display: block }
tr.own th, tr.own td { font-weight: 700 } tr.own small { font-weight: 400 }
@media (max-width: 34rem) { .scores { font-size: .82rem } .scores small { font-size: .7rem }
  .scores th, .scores td { padding-right: .4rem } .scores td span { display: block } }
.pairs th { font-weight: 400; color: var(--quiet); white-space: nowrap }
.pairs td { white-space: normal; overflow-wrap: anywhere }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); gap: 1.4rem;
  margin: .8rem 0 }
.chart text { fill: var(--quiet); font: 11px system-ui, sans-serif }
.chart .axis { stroke: var(--quiet); fill: none } .chart .grid { stroke: var(--rule) }
.chart .line { stroke: var(--c); fill: none; stroke-width: 1.6; stroke-linejoin: round }
.chart .bold { stroke-width: 2.6 } .chart .dashed { stroke-dasharray: 5 3 }
.chart .dot { fill: var(--c); stroke: var(--page); stroke-width: .8 }
.chart .bar { fill: var(--c); opacity: .75 }
.legend { display: flex; flex-wrap: wrap; gap: .15rem .9rem; list-style: none; padding: 0; margin: .4rem 0;
  font-size: .8rem }
.legend svg { width: 18px; height: 8px; margin-right: .3rem }
.legend i { display: inline-block; width: .8rem; height: .8rem; border-radius: 2px; vertical-align: -.05rem;
  margin-right: .3rem; border: 1px solid var(--quiet) }
.chart [style] { --c: var(--light) }
@media (prefers-color-scheme: dark) { .chart [style] { --c: var(--dark) } }
.cases { display: grid; gap: 1rem }
.case { background: var(--card); border-radius: 8px; padding: .7rem }
.case h4 { margin: 0 0 .3rem; font-size: .95rem } .case p { font-size: .9rem; margin: .2rem 0 .5rem }
.tiles { display: grid; grid-template-columns: repeat(4, minmax(0, 17rem)); gap: .5rem }
@media (max-width: 34rem) { .tiles { grid-template-columns: repeat(2, minmax(0, 1fr)) } }
.tiles figcaption { font-size: .75rem }
pre { background: var(--card); border-radius: 8px; padding: .7rem; white-space: pre-wrap; font-size: .85rem }
.wide td { white-space: normal; min-width: 4rem }
details { margin: .5rem 0 } summary { cursor: pointer; color: var(--accent) }
ul.ids { columns: 11rem; font-size: .85rem; padding-left: 1.1rem; margin: .4rem 0 }
footer { margin-top: 2.5rem; border-top: 1px solid var(--rule); padding-top: .6rem; font-size: .85rem }
"""


def page(title: str, body: str) -> str:
    """A whole document; it needs no network and no script."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{CSS}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def tag(name: str, text: object, **attributes: str) -> str:
    """An element with a text, escaped; `class_` stands for class."""
    return f"{opening(name, **attributes)}{escape(str(text))}</{name}>"


def opening(name: str, **attributes: str) -> str:
    """A start tag; underscores at the end of a name are dropped, others become hyphens."""
    texts = [f' {key.rstrip("_").replace("_", "-")}="{escape(text)}"' for key, text in attributes.items()]
    return f"<{name}{''.join(texts)}>"


def section(title: str, *parts: str) -> str:
    """A heading and, under it, parts that are already HTML."""
    return "<section>\n" + "\n".join([tag("h2", title), *parts]) + "\n</section>"


def pairs(rows: Mapping[str, object]) -> str:
    """A table of two columns, name and value."""
    body = "".join(f"<tr>{tag('th', name, scope='row')}{tag('td', text)}</tr>" for name, text in rows.items())
    return f'<div class="scroll"><table class="pairs"><tbody>{body}</tbody></table></div>'


def table(head: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]], own: str = "") -> str:
    """A scrollable table: rows of a name and cells that are already HTML; the row `own` is bold."""
    top = "".join(tag("th", name, scope="col") for name in head)
    body = ""
    for name, cells in rows:
        first = tag("th", name, scope="row")
        body += ('<tr class="own">' if name == own else "<tr>") + first
        body += "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>\n"
    return (
        f'<div class="scroll" tabindex="0"><table class="scores"><thead><tr>{top}</tr></thead>'
        f"<tbody>\n{body}</tbody></table></div>"
    )


def figure(picture: str, says: str, extra: str = "") -> str:
    """A picture that is already HTML, its caption, and more HTML under it, such as a legend."""
    return f"<figure>{picture}{extra}{tag('figcaption', says)}</figure>"


def image(data: bytes, kind: str, alt: str) -> str:
    """An image embedded in the page; `kind` is "png" or "jpeg"."""
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return opening("img", src=source, alt=alt)


def details(summary: str, *parts: str) -> str:
    """A collapsible part with a title; opening it needs no script."""
    return f"<details>{tag('summary', summary)}{''.join(parts)}</details>"

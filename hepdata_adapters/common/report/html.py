"""HTML as a tree of elements: what is text is escaped when it is written, without exception."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from xml.etree import ElementTree

Element = ElementTree.Element
Child = Element | str

SHOWN = 0.64
"""Width on the page of a pixel of a picture: sharp on dense screens and on paper."""

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif;
  color: #1d2430; background: #fff; max-width: 72rem; margin: 0 auto; padding: 1.5rem 1.5rem 4rem; }
h1 { font-size: 1.9rem; margin: 0 0 .3rem; }
h2 { font-size: 1.4rem; margin: 3rem 0 .8rem; padding-bottom: .3rem;
  border-bottom: 2px solid #3f90da; }
h3 { font-size: 1.1rem; margin: 2rem 0 .5rem; overflow-wrap: anywhere; }
p, li { max-width: 60rem; }
p.note { color: #58606e; font-size: .9rem; margin: .3rem 0; }
p.alarm { background: #fdecea; border-left: 4px solid #bd1f01; padding: .4rem .8rem; }
nav { background: #f4f6f9; border-radius: 6px; padding: .7rem 1.2rem; margin: 1.2rem 0; }
nav ul { margin: .2rem 0; padding-left: 1.2rem; }
nav div.features { line-height: 1.9; }
nav div.features a { display: inline-block; margin-right: .9rem; overflow-wrap: anywhere; }
a { color: #1862a8; text-decoration: none; } a:hover { text-decoration: underline; }
table { border-collapse: collapse; font-size: .88rem; margin: .5rem 0 1rem; display: block;
  max-width: 100%; overflow-x: auto; }
th, td { padding: .22rem .7rem; text-align: left; vertical-align: top; overflow-wrap: anywhere;
  border-bottom: 1px solid #e3e7ed; }
td { font-variant-numeric: tabular-nums; }
th { font-weight: 600; color: #3a4352; background: #f7f9fb; white-space: nowrap; }
td.number, th.number { text-align: right; white-space: nowrap; overflow-wrap: normal; }
.row { display: flex; flex-wrap: wrap; gap: 1rem 1.5rem; align-items: flex-start; }
.row > table { max-width: 32rem; }
figure { margin: .3rem 0; max-width: 100%; flex: 0 1 32rem; } figure.wide { flex-basis: 100%; }
figure img { max-width: 100%; height: auto; display: block; }
figcaption { color: #58606e; font-size: .85rem; }
pre { background: #f4f6f9; padding: .8rem 1rem; border-radius: 6px; font-size: .82rem;
  white-space: pre-wrap; overflow-wrap: anywhere; }
code { font-size: .9em; overflow-wrap: anywhere; }
section.feature { break-inside: avoid; border-top: 1px solid #e3e7ed; padding-top: .2rem; }
@media print {
  body { max-width: none; padding: 0; font-size: 11px; } a { color: inherit; }
  h2, h3 { break-after: avoid; } figure { break-inside: avoid; flex-basis: 45%; }
  nav { display: none; }
}
"""


def element(tag: str, /, *children: Child, **attributes: str) -> Element:
    """An element; ``class_`` is the attribute ``class``.

    >>> text(element("p", "a < b ", element("b", "&"), class_='x"'))
    '<p class="x&quot;">a &lt; b <b>&amp;</b></p>'
    """
    made = Element(tag, {key.rstrip("_"): value for key, value in attributes.items()})
    last: Element | None = None
    for child in children:
        if isinstance(child, Element):
            made.append(child)
            last = child
        elif last is None:
            made.text = (made.text or "") + child
        else:
            last.tail = (last.tail or "") + child
    return made


def text(root: Element) -> str:
    """The element as HTML."""
    return ElementTree.tostring(root, encoding="unicode", method="html")


def table(
    head: Sequence[str], rows: Iterable[Sequence[Child]], numbers: Sequence[int] = ()
) -> Element:
    """A table with a head. numbers: the columns that are aligned to the right."""

    def cells(kind: str, row: Sequence[Child]) -> Element:
        right = {"class_": "number"}
        return element(
            "tr",
            *(element(kind, c, **(right if i in numbers else {})) for i, c in enumerate(row)),
        )

    body = [cells("td", row) for row in rows]
    return element("table", element("thead", cells("th", head)), element("tbody", *body))


def facts(rows: Iterable[tuple[str, Child]]) -> Element:
    """A table of names and values."""
    lines = (element("tr", element("th", name), element("td", value)) for name, value in rows)
    return element("table", element("tbody", *lines))


def picture(png: bytes, description: str, caption: str = "", *, wide: bool = False) -> Element:
    """A picture inside of the page. description: for those who do not see it."""
    source = f"data:image/png;base64,{base64.b64encode(png).decode()}"
    # the header of a PNG: width and height are its first two numbers
    width = int(SHOWN * int.from_bytes(png[16:20], "big"))
    children = [element("img", src=source, alt=description, width=str(width))]
    if caption:
        children.append(element("figcaption", caption))
    return element("figure", *children, **({"class_": "wide"} if wide else {}))


def document(title: str, *body: Child) -> bytes:
    """A whole page, UTF-8, that needs nothing else."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        # nothing is ever fetched or run, whatever the names say
        element("meta", **{
            "http-equiv": "Content-Security-Policy",
            "content": "default-src 'none'; img-src data:; style-src 'unsafe-inline'",
        }),
        element("title", title),
        element("style", STYLE),
    )  # fmt: skip
    page = "<!DOCTYPE html>\n" + text(element("html", head, element("body", *body), lang="en"))
    return page.encode("utf-8", "replace") + b"\n"

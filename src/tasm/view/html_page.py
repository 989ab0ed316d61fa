"""A page that stands alone: one HTML file with its style inside, nothing fetched from anywhere.

Every text that comes from a user goes through `escape`. It knows neither memories nor measurements.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape as _escape

STYLE = """
:root { color-scheme: light dark;
  --page:#fbfbfa; --card:#fff; --ink:#1c1e21; --soft:#646a73; --line:#e4e5e7; --core:#e8781c;
  --bank:#2684ff; --rest:#d5d8dc; --accent:#0b6e5f; --wrong:#c4372c; }
@media (prefers-color-scheme: dark) { :root {
  --page:#131517; --card:#1b1e21; --ink:#e8eaed; --soft:#9aa2ac; --line:#2d3136; --core:#f58220;
  --bank:#5aa2ff; --rest:#3b4046; --accent:#4cc2ad; --wrong:#ff7b6e; } }
* { box-sizing:border-box; }
body { margin:0; background:var(--page); color:var(--ink);
  font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif; }
main { max-width:1120px; margin:0 auto; padding:2.5rem 1.25rem 4rem; }
h1 { font-size:1.7rem; line-height:1.2; margin:0 0 .35rem; letter-spacing:-.01em; }
h2 { font-size:1.12rem; margin:2.4rem 0 .8rem; }
p { margin:.3rem 0 .8rem; max-width:72ch; }
.soft { color:var(--soft); }
code { font:13px/1.4 ui-monospace,Menlo,Consolas,monospace; overflow-wrap:anywhere; }
.facts { display:grid; grid-template-columns:repeat(auto-fill,minmax(150px,1fr)); gap:.75rem;
  margin:1.4rem 0; }
.fact, .card, figure { background:var(--card); border:1px solid var(--line); border-radius:10px; }
.fact { padding:.7rem .85rem; }
.fact b { display:block; font-size:1.22rem; font-weight:600; font-variant-numeric:tabular-nums; }
.fact span { color:var(--soft); font-size:.82rem; }
.scroll { overflow-x:auto; }
table { border-collapse:collapse; width:100%; font-variant-numeric:tabular-nums; }
th,td { text-align:left; padding:.42rem .7rem; border-bottom:1px solid var(--line);
  vertical-align:top; }
th { color:var(--soft); font-weight:500; font-size:.84rem; }
td.n,th.n { text-align:right; white-space:nowrap; }
figure { margin:0; padding:1rem 1.1rem; } figcaption { font-weight:600; margin-bottom:.5rem; }
svg { display:block; width:100%; max-width:480px; height:auto; }
svg text { fill:var(--ink); font-size:12px; }
svg .axis { fill:var(--soft); }
.plots { display:grid; grid-template-columns:repeat(auto-fit,minmax(310px,1fr)); gap:1rem;
  margin-top:1rem; align-items:start; }
.key { display:inline-block; width:.75em; height:.75em; border-radius:2px; margin:0 .35em 0 .9em; }
.key:first-child { margin-left:0; }
footer { margin-top:3rem; color:var(--soft); font-size:.85rem; border-top:1px solid var(--line);
  padding-top:.9rem; }
"""
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def escape(text: object) -> str:
    """Return a text as HTML, quotes included."""
    return _escape(str(text), quote=True)


def page(title: str, body: str, *, style: str = "", script: str = "") -> str:
    """Return a whole HTML document; `body`, `style` and `script` are ours, the title is escaped."""
    scripts = f"<script>{script}</script>" if script else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{escape(title)}</title><style>{STYLE}{style}</style></head>\n"
        f"<body><main>\n{body}\n</main>{scripts}</body></html>\n"
    )


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a row of figures: (what it is, the figure)."""
    cells = (
        f'<div class="fact"><b>{escape(value)}</b><span>{escape(name)}</span></div>'
        for name, value in pairs
    )
    return f'<div class="facts">{"".join(cells)}</div>'


def html_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], figures: Sequence[int] = ()
) -> str:
    """Return a table; the columns numbered in `figures` are aligned to the right."""

    def line(tag: str, values: Sequence[object]) -> str:
        cells = (_cell(tag, value, number in figures) for number, value in enumerate(values))
        return f"<tr>{''.join(cells)}</tr>"

    body = "".join(line("td", row) for row in rows)
    return (
        f'<div class="scroll"><table><thead>{line("th", columns)}</thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(tag: str, value: object, is_figure: bool) -> str:
    kind = ' class="n"' if is_figure else ""
    return f"<{tag}{kind}>{escape(value)}</{tag}>"


@dataclass(frozen=True)
class Bar:
    """One horizontal bar: its name, its parts as (value, CSS colour), what is written after it."""

    name: str
    parts: tuple[tuple[float, str], ...]
    label: str


def bar_chart(title: str, bars: Sequence[Bar], *, largest: float | None = None) -> str:
    """Return a figure of horizontal bars as inline SVG; `largest` is the length of a full bar."""
    whole = largest or max((sum(value for value, _ in bar.parts) for bar in bars), default=1) or 1
    step, left, width, room = 24, 84, 190, 76
    drawn = []
    for number, bar in enumerate(bars):
        top, x = number * step, float(left)
        name = f'<text x="{left - 8}" y="{top + 16}" text-anchor="end">{escape(bar.name)}</text>'
        drawn.append(name)
        for value, colour in bar.parts:
            length = width * value / whole
            drawn.append(
                f'<rect x="{x:.1f}" y="{top + 4}" width="{length:.1f}" height="16" rx="2" '
                f'fill="{colour}"/>'
            )
            x += length
        label = f'<text class="axis" x="{x + 6:.1f}" y="{top + 16}">{escape(bar.label)}</text>'
        drawn.append(label)
    size = f"0 0 {left + width + room} {step * len(bars)}"
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="{size}" role="img" aria-label="{escape(title)}">'
        f"{''.join(drawn)}</svg></figure>"
    )

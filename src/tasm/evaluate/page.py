"""One HTML page from Markdown tables and pictures, with nothing outside it. Knows no rows."""

import html
from collections.abc import Sequence

_STYLE = """
:root { color-scheme: light dark; font: 15px/1.5 system-ui, sans-serif; }
body { margin: 2rem auto; max-width: 76rem; padding: 0 1rem; }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-size: .85rem; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #8884; text-align: right;
  white-space: nowrap; font-variant-numeric: tabular-nums; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0; }
tbody tr:hover { background: #8882; }
.wide { overflow-x: auto; }
figure { margin: 1rem 0; background: white; } figure svg { max-width: 100%; height: auto; }
"""


def page(title: str, sections: Sequence[str]) -> str:
    """Return a whole HTML document from sections that are HTML already."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def tables(markdown: str) -> str:
    """Return headings, paragraphs, lists and tables of simple Markdown as HTML.

    ```python
    >>> tables("## Title")
    '<h2>Title</h2>'
    ```
    """
    found: list[str] = []
    table: list[list[str]] = []
    for line in [*markdown.splitlines(), ""]:
        if line.startswith("|"):
            table.append([cell.strip() for cell in line.strip("|").split("|")])
            continue
        if table:
            found.append(_table(table))
            table = []
        if line.startswith("#"):
            level = len(line) - len(line.lstrip("#"))
            found.append(f"<h{level}>{html.escape(line[level:].strip())}</h{level}>")
        elif line.startswith("- "):
            found.append(f"<li>{html.escape(line[2:])}</li>")
        elif line:
            found.append(f"<p>{html.escape(line)}</p>")
    return "\n".join(found)


def _table(lines: Sequence[Sequence[str]]) -> str:
    header, _, *body = lines

    def cells(line: Sequence[str], kind: str) -> str:
        return "".join(f"<{kind}>{html.escape(cell)}</{kind}>" for cell in line)

    return (
        f'<div class="wide"><table><thead><tr>{cells(header, "th")}</tr></thead><tbody>'
        + "".join(f"<tr>{cells(line, 'td')}</tr>" for line in body)
        + "</tbody></table></div>"
    )

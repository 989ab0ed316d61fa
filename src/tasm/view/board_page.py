"""The leaderboard's page from Markdown tables and pictures. Knows no rows."""

from collections.abc import Sequence

from tasm.view import html_page

_STYLE = """
td:not(:first-child), th:not(:first-child) { text-align:right; white-space:nowrap; }
figure { background:#fff; margin:.5rem 0 1.5rem; }
"""


def page(title: str, sections: Sequence[str]) -> str:
    """Return a whole HTML document from sections that are HTML already."""
    return html_page.page(title, "\n".join(sections), style=_STYLE)


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
            header, _, *body = table
            found.append(html_page.html_table(header, body))
            table = []
        if line.startswith("#"):
            level = len(line) - len(line.lstrip("#"))
            found.append(f"<h{level}>{html_page.escape(line[level:].strip())}</h{level}>")
        elif line.startswith("- "):
            found.append(f"<li>{html_page.escape(line[2:])}</li>")
        elif line:
            found.append(f"<p>{html_page.escape(line)}</p>")
    return "\n".join(found)

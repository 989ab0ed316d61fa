"""Writes docs/methods/*.md from the recipe table and the docstrings of its parts.

    python docs/methods/generate.py

`tasm.md` is written by hand and left alone. A test holds the pages up to date.
"""

import inspect
import re
from pathlib import Path

from tasm.compress.recipes.recipe import Part, Recipe
from tasm.compress.recipes.table import PACKED, RECIPES, TUNED, VARIANTS
from tasm.memory.retrieval import key_blocks

FOLDER = Path(__file__).parent
GRANULARITIES = {
    "page": key_blocks.Pages,
    "block": key_blocks.RepresentedBlocks,
    "image-mean": key_blocks.ImageMeans,
    "selecting-layers": key_blocks.SelectingLayers,
}
PLAIN = {"Uniform", "Drop"}


def pages() -> dict[str, str]:
    """Return every generated page by file name."""
    found = {"README.md": index()}
    for recipe in RECIPES.values():
        if has_page(recipe):
            found[f"{recipe.name}.md"] = page(recipe)
    return found


def has_page(recipe: Recipe) -> bool:
    """Whether it is a published method without a page written by hand."""
    listed = recipe in (*TUNED, *PACKED, *VARIANTS) or recipe.name in WITHOUT_PAGE
    return bool(recipe.scorer) and not listed


WITHOUT_PAGE = {"tasm", "tasm-compact", "tasm-paper", "full", "random"}


def page(recipe: Recipe) -> str:
    """Return the page of one recipe."""
    link = f" [The paper]({recipe.url})." if recipe.url else ""
    lines = [
        f"# {recipe.name}",
        "",
        f"{recipe.title}, {recipe.year}.{link}",
    ]
    if recipe.note:
        lines += ["", f"{recipe.note[0].upper()}{recipe.note[1:]}."]
    if recipe.whose:
        lines += ["", f"{recipe.whose[0].upper()}{recipe.whose[1:]}."]
    lines += ["", f"    tasm build demos.jsonl --recipe {recipe.name} --out demos.tasm", ""]
    parts = {"Score": recipe.scorer, "Budget": recipe.budget, "Reduction": recipe.reducer}
    for title, part in parts.items():
        if part is not None:
            lines += section(title, part)
    if recipe.others:
        lines += others(recipe)
    granularity = recipe.gate.get("granularity")
    if recipe.gate:
        settings = ", ".join(f"`{name}` = {value!r}" for name, value in recipe.gate.items())
        lines += [
            "## Retrieval",
            "",
            f"Core {recipe.core}, bank {recipe.bank}; gate {settings}.",
            "",
        ]
    if granularity in GRANULARITIES:
        lines += [docstring(GRANULARITIES[granularity]), ""]
    return "\n".join(lines).rstrip() + "\n"


def others(recipe: Recipe) -> list[str]:
    """Return what a build tries beside a recipe's own parts."""
    lines = [
        "## Tried against",
        "",
        f"At most {recipe.asked} demonstrations are asked over everything and over what each of",
        "these parts would keep. Where values are fitted they are asked again behind what would be",
        "built, in turn with their originals in it and with these hidden, as a new query would be;",
        "elsewhere the rows that say their answers are read anew where they stood, what leaves",
        "hidden. The parts above are taken unless others change what is said by surely less",
        "(Jensen-Shannon divergence: 0.005 nats and one standard error over demonstrations). The",
        "build prints what was tried, what it took and which parts were taken; the memory's notes",
        "keep it (`tried`, `taken`).",
        "",
        "| | score | budget | reduction |",
        "|---|---|---|---|",
    ]
    for other in recipe.others:
        parts = (other.scorer, other.budget, other.reducer)
        lines.append(
            f"| {other.name} | " + " | ".join(f"`{part.class_name}`" for part in parts) + " |"
        )
    return [*lines, ""]


def section(title: str, part: Part) -> list[str]:
    """Return what a part says of itself; one paragraph for those that most methods share."""
    made = part.find()
    module = inspect.getmodule(made)
    settings = ", ".join(f"`{name}` = {value!r}" for name, value in part.settings.items())
    with_settings = f" with {settings}" if settings else ""
    text = docstring(made)
    if part.class_name in PLAIN:
        text = text.partition("\n\n")[0]
    lines = [f"## {title}: `{part.class_name}`{with_settings}", "", text, ""]
    source = inspect.cleandoc((module and module.__doc__) or "").partition("\n\n")[2]
    if source and part.class_name not in PLAIN:
        lines += [f"Source: {source}", ""]
    return lines


def docstring(thing: type) -> str:
    """Return a class's docstring as Markdown, what differs from the paper as a paragraph of its
    own."""
    text = inspect.cleandoc(thing.__doc__ or "")
    text = re.sub(r"(?<!\n)\n(Differs from)", r"\n\n\1", text)
    text = re.sub(r"(Differs from the papers? in:?)\n- ", r"\1\n\n- ", text)
    text = re.sub(r"(?<=\S) (Differs from the papers? in)", r"\n\n\1", text)
    return re.sub(r"Differs from the (papers?) in", r"**Differs from the \1 in**", text)


def index() -> str:
    """Return the index of all methods."""
    lines = [
        "# Methods",
        "",
        "Every method is a recipe: a score, a budget, a way to reduce, a bank and a gate. What",
        "differs from its paper is on its page. To add one see",
        "[Adding a method](../adding-a-method.md).",
        "",
        "The default is [`compact`](compact.md): best at equal bytes on all instruments; its build",
        "reads the demonstrations again and tries its parts, three to four readings in all. Where a",
        "build should be quick and bytes are cheap, take `tasm` (about 1.3), whose bank brings",
        "back what the core left out.",
        "[The leaderboard](../reference/leaderboard.md) has the figures.",
        "[Mema](../vision-memory.md), a memory across the vision tower's layers, goes with any of",
        "them.",
        "",
        "| recipe | method | year | paper |",
        "|---|---|---|---|",
    ]
    for recipe in RECIPES.values():
        if recipe in (*TUNED, *PACKED, *VARIANTS):
            continue
        name = f"`{recipe.name}`"
        if has_page(recipe):
            name = f"[{name}]({recipe.name}.md)"
        elif recipe.name.startswith("tasm"):
            name = f"[{name}](tasm.md)"
        paper = f"[link]({recipe.url})" if recipe.url else ""
        lines.append(f"| {name} | {recipe.title} | {recipe.year} | {paper} |")
    lines += ["", "## Rivals tuned here", "", "On training classes ([how](../bench.md)).", ""]
    lines += ["| recipe | |", "|---|---|"]
    lines += [f"| `{recipe.name}` | {recipe.title} |" for recipe in TUNED]
    lines += [
        "",
        "## In four bits",
        "",
        "At equal bytes they keep about four times the tokens ([how small](../packed.md)).",
        "",
        "| recipe | |",
        "|---|---|",
    ]
    lines += [f"| `{recipe.name}` | {recipe.title} |" for recipe in PACKED]
    lines += [
        "",
        "## Ablations of TASM",
        "",
        "They follow whatever `tasm` is.",
        "",
        "| recipe | |",
        "|---|---|",
    ]
    lines += [f"| `{recipe.name}` | {recipe.title} |" for recipe in VARIANTS]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for name, text in pages().items():
        (FOLDER / name).write_text(text, encoding="utf-8")

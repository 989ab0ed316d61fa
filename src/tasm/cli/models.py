"""`tasm models`: the families of models that are known. Imports no torch."""

from typing import Any

from tasm.cli.frame import Result, command
from tasm.cli.options import Json

BUNDLED = [
    {
        "name": "reference",
        "title": "The small vision-language model that comes with tasm; it learns in context",
    },
    {
        "name": "random:qwen2_vl-0.15b",
        "title": "Random weights of 150 million parameters, made in memory, for measuring speed",
    },
]


@command
def models(json: Json = False) -> Result:
    """List the model families that work, and the models that come with tasm.

    \b
    Example:
      tasm models
      tasm doctor --model Qwen/Qwen2.5-VL-7B-Instruct
    """
    from tasm.backbone.checkpoint.families import FAMILIES

    families = [
        {
            "name": family.name,
            "title": family.title,
            "kind": family.kind,
            "example": family.example,
        }
        for family in FAMILIES.values()
    ]
    return Result({"bundled": BUNDLED, "families": families}, lambda: _tables(families))


def _tables(families: list[dict[str, Any]]) -> Any:
    from rich.console import Group

    from tasm.cli.text import plain, table

    bundled = table("Name", "What it is", title="Models that come with tasm")
    for row in BUNDLED:
        bundled.add_row(plain(row["name"]), plain(row["title"]))
    listing = table("model_type", "Family", "Kind", "For example", title="Families")
    for row in families:
        listing.add_row(*(plain(row[cell]) for cell in ("name", "title", "kind", "example")))
    return Group(bundled, listing, "Other families are tried; what is missing is then said.")

"""`tasm models`: the families of models that are known. Imports no torch."""

from typing import Any

from tasm.cli.frame import Result, command
from tasm.cli.options import Json


@command
def models(json: Json = False) -> Result:
    """List the model families that work, and the models that come with tasm.

    \b
    Example:
      tasm models
      tasm doctor --model Qwen/Qwen2.5-VL-7B-Instruct
    """
    from tasm.backbone.listing import models as known_models

    found = known_models()
    return Result(found, lambda: _tables(found["bundled"], found["families"]))


def _tables(included: list[dict[str, Any]], families: list[dict[str, Any]]) -> Any:
    from rich.console import Group

    from tasm.cli.text import plain, table

    bundled = table("Name", "What it is", title="Models that come with tasm")
    for row in included:
        bundled.add_row(plain(row["name"]), plain(row["title"]))
    listing = table("model_type", "Family", "Kind", "For example", title="Families")
    for row in families:
        listing.add_row(*(plain(row[cell]) for cell in ("name", "title", "kind", "example")))
    return Group(bundled, listing, "Other families are tried; what is missing is then said.")

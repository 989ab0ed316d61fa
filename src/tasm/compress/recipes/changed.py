"""Whether a recipe of today is still the one that a memory was built with. Knows no torch."""

from collections.abc import Mapping
from typing import Any

from tasm.compress.recipes.parts import name_of
from tasm.compress.recipes.table import find_recipe


def recipe_change(recorded: Mapping[str, Any]) -> str | None:
    """Return a sentence where the recipe of that name has other parts or settings by now, or
    None."""
    name = recorded["name"]
    now = find_recipe(name).to_json()
    changed = [
        part
        for part in ("scorer", "budget", "reducer", "gate", "bank_choice", "streaming")
        if part in recorded and _settings(recorded[part]) != _settings(now[part])
    ]
    if not changed:
        return None
    return (
        f"The recipe {name!r} of this tasm differs from the one that the memory was built with "
        f"({', '.join(changed)}): what is built now follows the present one."
    )


def _settings(part: Any) -> Any:
    """What counts of a part: its name, not where its class once lived, and its settings."""
    if isinstance(part, dict) and set(part) == {"part", "settings"}:
        return name_of(str(part["part"])), part["settings"]
    return part

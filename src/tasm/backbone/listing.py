"""The models that come with tasm, and the families that are known. Imports no torch."""

from typing import Any

from tasm.backbone.checkpoint.families import FAMILIES

BUNDLED = (
    {
        "name": "reference",
        "title": "The small vision-language model that comes with tasm; it learns in context",
    },
    {
        "name": "random:qwen2_vl-0.15b",
        "title": "Random weights of 150 million parameters, made in memory, for measuring speed",
    },
    {"name": "random:qwen2_vl-0.5b", "title": "The same of 500 million parameters"},
    {"name": "random:qwen2_vl-7b", "title": "The same of 7 billion, for a GPU"},
    {
        "name": "random:qwen2_vl-deep",
        "title": "Eight small layers whose keys and values outweigh all else, for counting bytes",
    },
    {
        "name": "random:qwen2_vl-tiny",
        "title": "The same of under a million, for trying what runs",
    },
)


def models() -> dict[str, list[dict[str, Any]]]:
    """Return the models that come with tasm (`bundled`) and the known `families`.

    ```python
    [family["name"] for family in tasm.models()["families"]]
    ```

    Other families are tried, and what is missing is then said.
    """
    families = [
        {"name": one.name, "title": one.title, "kind": one.kind, "example": one.example}
        for one in FAMILIES.values()
    ]
    return {"bundled": [dict(row) for row in BUNDLED], "families": families}

"""Rows of the recipe table: retrieval and associative methods of other papers. Knows no torch.

Retrieval methods keep every token: a small core of sinks and recent tokens, all others in the bank,
and blocks of it at every step. How blocks are judged is in `tasm.memory.retrieval.key_blocks`.
"""

from tasm.compress.recipes.recipe import Part, Recipe

_ARXIV = "https://arxiv.org/abs/"
_RECENT = Part("recent", {"sinks": 4})
_DENSE = Part("dense-first", {"dense": 2})

ROWS = (
    Recipe(
        "quest",
        "Quest: query-aware pages",
        2024,
        _ARXIV + "2406.10774",
        scorer=_RECENT,
        budget=_DENSE,
        core="10%",
        bank="90%",
        gate={"kind": "always", "granularity": "page", "top_k": 96},
    ),
    Recipe(
        "infllm",
        "InfLLM: blocks with representatives",
        2024,
        _ARXIV + "2402.04617",
        scorer=_RECENT,
        core="10%",
        bank="90%",
        gate={"kind": "always", "granularity": "block", "top_k": 96},
    ),
    Recipe(
        "rekv",
        "ReKV: retrieval of image blocks",
        2025,
        _ARXIV + "2503.00540",
        scorer=_RECENT,
        core="10%",
        bank="90%",
        gate={"kind": "always", "granularity": "image-mean", "top_k": 96},
    ),
    Recipe(
        "delta",
        "DELTA: selection layers choose for others",
        2025,
        "",
        scorer=_RECENT,
        budget=_DENSE,
        core="10%",
        bank="90%",
        gate={"kind": "always", "granularity": "selecting-layers", "top_k": 96},
    ),
    Recipe(
        "camelot",
        "CAMELoT: consolidated associative memory",
        2024,
        _ARXIV + "2402.13449",
        scorer=Part("slot-founders"),
        reducer=Part("slot-merge"),
    ),
)

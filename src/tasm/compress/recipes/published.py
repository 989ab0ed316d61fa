"""Rows of the recipe table: eviction and merging methods of other papers. Knows no torch.

Every row names the paper; what differs from it is in the docstring of the part.
"""

from tasm.compress.recipes.recipe import Part, Recipe

_ARXIV = "https://arxiv.org/abs/"

_EMLOC = Part("answer-aware", {"attending": "answer-spans"})
_RECONSTRUCTION = Part("reconstruction", {"repeats": "context"})
_HEAVY = Part("heavy-hitters")
_WINDOW = Part("observation-window")

ROWS = (
    Recipe(
        "emloc",
        "EMLoC: Efficient Multimodal Long Context",
        2025,
        _ARXIV + "2505.19812",
        scorer=_EMLOC,
        budget=Part("accepted-ratios"),
        streaming="append",
        note="ratios accepted under a Jensen-Shannon bound, which is searched for the budget; a "
        "joint build is one chunk, `--mode streaming` has the paper's, of a few demonstrations",
    ),
    Recipe(
        "emloc-pairs",
        "EMLoC*, two layers share a ratio",
        2025,
        _ARXIV + "2505.19812",
        scorer=_EMLOC,
        budget=Part("accepted-ratios", {"together": 2}),
        streaming="append",
    ),
    Recipe(
        "emloc-paper",
        "EMLoC with its own bound; takes no budget",
        2025,
        _ARXIV + "2505.19812",
        scorer=_EMLOC,
        budget=Part("accepted-ratios", {"delta": 0.005}),
        streaming="append",
        takes_core=False,
    ),
    Recipe(
        "snapkv",
        "SnapKV",
        2024,
        _ARXIV + "2404.14469",
        scorer=_WINDOW,
        note="with the window kept whole (`largest_share` 1) it keeps 99.8 % of the tokens that "
        "the authors' own code keeps (docs/bench.md)",
    ),
    Recipe(
        "snapkv-answers",
        "SnapKV, observed by the rows that say the demonstrations' answers",
        2024,
        _ARXIV + "2404.14469",
        scorer=Part(
            "answer-aware",
            {"attending": "predictions", "source": "reading", "answer_bonus": 0.0},
        ),
        note="not the paper's: a form for demonstrations, whose query is not known yet",
    ),
    Recipe(
        "adakv",
        "Ada-KV on SnapKV's scores",
        2024,
        _ARXIV + "2407.11550",
        scorer=_WINDOW,
        budget=Part("pooled", {"together": "layer", "floor": 0.2}),
    ),
    Recipe("h2o", "Heavy-Hitter Oracle", 2023, _ARXIV + "2306.14048", scorer=_HEAVY),
    Recipe(
        "pyramidkv",
        "PyramidKV",
        2024,
        _ARXIV + "2406.02069",
        scorer=_WINDOW,
        budget=Part("pyramid"),
    ),
    Recipe(
        "fastv",
        "FastV",
        2024,
        _ARXIV + "2403.06764",
        scorer=Part("visual-attention"),
        budget=Part("dense-first", {"dense": 2}),
    ),
    Recipe(
        "sparsevlm",
        "SparseVLM",
        2024,
        _ARXIV + "2410.04417",
        scorer=Part("text-raters"),
    ),
    Recipe(
        "zipvl",
        "ZipVL",
        2024,
        _ARXIV + "2410.08584",
        scorer=Part("probe-attention"),
        budget=Part("importance-mass"),
        note="its threshold is searched for the budget",
    ),
    Recipe(
        "key-norm",
        "L2 norm of keys",
        2024,
        _ARXIV + "2406.11430",
        scorer=Part("key-norm"),
        note="assumes that keys of small norm matter; on the bundled model those of large norm do",
    ),
    Recipe(
        "keydiff",
        "KeyDiff",
        2025,
        _ARXIV + "2504.15364",
        scorer=Part("key-difference"),
    ),
    Recipe(
        "expected-attention",
        "Expected Attention",
        2025,
        _ARXIV + "2510.00636",
        scorer=Part("expected-attention", {"rows": "all", "sinks": 4}),
    ),
    Recipe(
        "kvzip",
        "KVzip",
        2025,
        _ARXIV + "2505.23416",
        scorer=_RECONSTRUCTION,
        budget=Part("pooled"),
        note="of the tokens that the authors' own code keeps it keeps 98 to 99 %: the same scores, "
        "another rounding (docs/bench.md)",
    ),
    Recipe(
        "kvzip-even-heads",
        "KVzip, its threshold over all, every head of a layer alike",
        2025,
        _ARXIV + "2505.23416",
        scorer=_RECONSTRUCTION,
        budget=Part("pooled", {"heads": "alike"}),
    ),
    Recipe(
        "kvzip-even-layers",
        "KVzip, every layer and head alike",
        2025,
        _ARXIV + "2505.23416",
        scorer=_RECONSTRUCTION,
        note="the paper's weaker form, which this project called kvzip before 0.2",
    ),
    Recipe(
        "attention-matching",
        "Attention Matching",
        2026,
        _ARXIV + "2602.16284",
        scorer=Part("effect", {"weighs": "attention", "norm": 2.0}),
        reducer=Part("attention-matching", {"bias_limit": 3.0}),
        note="keys by root-mean-square attention, the paper's default",
    ),
    Recipe(
        "look-m",
        "LOOK-M",
        2024,
        _ARXIV + "2406.18139",
        scorer=Part("text-first"),
        reducer=Part("nearest-merge", {"weighting": "pivot", "among": "images"}),
    ),
    Recipe(
        "d2o",
        "D2O: Dynamic Discriminative Operations",
        2024,
        _ARXIV + "2406.13035",
        scorer=Part("heavy-hitters", {"sinks": 4}),
        budget=Part("inverse-variance"),
        reducer=Part("nearest-merge", {"weighting": "exponential", "threshold": "mean"}),
    ),
    Recipe(
        "kvmerger",
        "KVMerger",
        2024,
        _ARXIV + "2407.08454",
        scorer=_HEAVY,
        budget=Part("dense-first", {"dense": 2, "last": 1}),
        reducer=Part("run-merge"),
    ),
    Recipe(
        "zeromerge",
        "ZeroMerge",
        2025,
        _ARXIV + "2503.10714",
        scorer=_HEAVY,
        reducer=Part("residual-merge"),
    ),
    Recipe(
        "ems",
        "EMS: Evict-then-Merge",
        2024,
        _ARXIV + "2412.08521",
        scorer=Part("global-and-local"),
        reducer=Part(
            "nearest-merge",
            {
                "similarity": "keys*values",
                "threshold": 0.3,
                "least_share": 0.5,
                "keep_norm": "mean",
                "weighting": "exponential",
            },
        ),
    ),
    Recipe(
        "cam",
        "CaM: Cache Merging",
        2024,
        "https://proceedings.mlr.press/v235/zhang24n.html",
        scorer=_HEAVY,
        reducer=Part("next-values", {"values": "added"}),
        note="values added as printed, for a setting in which tokens leave one by one",
    ),
    Recipe(
        "tome",
        "Token Merging, on keys",
        2022,
        _ARXIV + "2210.09461",
        scorer=Part("least-redundant"),
        reducer=Part("nearest-merge", {"weighting": "count", "count_bias": 1.0}),
    ),
)

"""Rows of the recipe table: eviction and merging methods of other papers. Knows no torch.

Every row names the paper; what differs from it is in the docstring of the part.
"""

from tasm.compress.recipes.recipe import Part, Recipe

_ARXIV = "https://arxiv.org/abs/"
_SCORERS, _BUDGETS, _REDUCERS = (
    "tasm.compress.parts.scorers.",
    "tasm.compress.parts.budgets.",
    "tasm.compress.parts.reducers.",
)

_EMLOC = Part(_SCORERS + "answer_aware:AnswerAware", {"attending": "answer-spans"})
_POOLED = _BUDGETS + "pooled:Pooled"
_RECONSTRUCTION = Part(_SCORERS + "reconstruction:Reconstruction")
_HEAVY = Part(_SCORERS + "heavy_hitters:HeavyHitters")
_WINDOW = Part(_SCORERS + "window:ObservationWindow")
_NEAREST = _REDUCERS + "nearest:NearestMerge"

ROWS = (
    Recipe(
        "emloc",
        "EMLoC: Efficient Multimodal Long Context",
        2025,
        _ARXIV + "2505.19812",
        scorer=_EMLOC,
        budget=Part(_BUDGETS + "accepted_ratios:AcceptedRatios"),
        streaming="append",
        note="ratios accepted under a Jensen-Shannon bound, which is searched for the budget",
    ),
    Recipe(
        "emloc-pairs",
        "EMLoC*, two layers share a ratio",
        2025,
        _ARXIV + "2505.19812",
        scorer=_EMLOC,
        budget=Part(_BUDGETS + "accepted_ratios:AcceptedRatios", {"together": 2}),
        streaming="append",
    ),
    Recipe(
        "emloc-paper",
        "EMLoC with its own bound; takes no budget",
        2025,
        _ARXIV + "2505.19812",
        scorer=_EMLOC,
        budget=Part(_BUDGETS + "accepted_ratios:AcceptedRatios", {"delta": 0.005}),
        streaming="append",
        takes_core=False,
    ),
    Recipe("snapkv", "SnapKV", 2024, _ARXIV + "2404.14469", scorer=_WINDOW),
    Recipe(
        "snapkv-answers",
        "SnapKV, observed by the rows that say the demonstrations' answers",
        2024,
        _ARXIV + "2404.14469",
        scorer=Part(
            _SCORERS + "answer_aware:AnswerAware",
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
        budget=Part(_POOLED, {"together": "layer", "floor": 0.2}),
    ),
    Recipe("h2o", "Heavy-Hitter Oracle", 2023, _ARXIV + "2306.14048", scorer=_HEAVY),
    Recipe(
        "pyramidkv",
        "PyramidKV",
        2024,
        _ARXIV + "2406.02069",
        scorer=_WINDOW,
        budget=Part(_BUDGETS + "pyramid:Pyramid"),
    ),
    Recipe(
        "fastv",
        "FastV",
        2024,
        _ARXIV + "2403.06764",
        scorer=Part(_SCORERS + "visual:VisualAttention"),
        budget=Part(_BUDGETS + "dense_first:DenseFirst", {"dense": 2}),
    ),
    Recipe(
        "sparsevlm",
        "SparseVLM",
        2024,
        _ARXIV + "2410.04417",
        scorer=Part(_SCORERS + "visual:TextRaters"),
    ),
    Recipe(
        "zipvl",
        "ZipVL",
        2024,
        _ARXIV + "2410.08584",
        scorer=Part(_SCORERS + "probes:ProbeAttention"),
        budget=Part(_BUDGETS + "mass:ImportanceMass"),
        note="its threshold is searched for the budget",
    ),
    Recipe(
        "key-norm",
        "L2 norm of keys",
        2024,
        _ARXIV + "2406.11430",
        scorer=Part(_SCORERS + "keys:KeyNorm"),
    ),
    Recipe(
        "keydiff",
        "KeyDiff",
        2025,
        _ARXIV + "2504.15364",
        scorer=Part(_SCORERS + "keys:KeyDifference"),
    ),
    Recipe(
        "expected-attention",
        "Expected Attention",
        2025,
        _ARXIV + "2510.00636",
        scorer=Part(_SCORERS + "expected_attention:ExpectedAttention"),
    ),
    Recipe(
        "kvzip",
        "KVzip",
        2025,
        _ARXIV + "2505.23416",
        scorer=_RECONSTRUCTION,
        budget=Part(_POOLED),
    ),
    Recipe(
        "kvzip-even-heads",
        "KVzip, its threshold over all, every head of a layer alike",
        2025,
        _ARXIV + "2505.23416",
        scorer=_RECONSTRUCTION,
        budget=Part(_POOLED, {"heads": "alike"}),
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
        scorer=Part(_SCORERS + "effect:Effect", {"weighs": "attention", "norm": 2.0}),
        reducer=Part(_REDUCERS + "attention_matching:AttentionMatching", {"bias_limit": 3.0}),
        note="keys by root-mean-square attention, the paper's default",
    ),
    Recipe(
        "look-m",
        "LOOK-M",
        2024,
        _ARXIV + "2406.18139",
        scorer=Part(_SCORERS + "text_first:TextFirst"),
        reducer=Part(_NEAREST, {"weighting": "pivot", "among": "images"}),
    ),
    Recipe(
        "d2o",
        "D2O: Dynamic Discriminative Operations",
        2024,
        _ARXIV + "2406.13035",
        scorer=Part(_SCORERS + "heavy_hitters:HeavyHitters", {"sinks": 4}),
        budget=Part(_BUDGETS + "variance:InverseVariance"),
        reducer=Part(_NEAREST, {"weighting": "exponential", "threshold": "mean"}),
    ),
    Recipe(
        "kvmerger",
        "KVMerger",
        2024,
        _ARXIV + "2407.08454",
        scorer=_HEAVY,
        budget=Part(_BUDGETS + "dense_first:DenseFirst", {"dense": 2, "last": 1}),
        reducer=Part(_REDUCERS + "runs:RunMerge"),
    ),
    Recipe(
        "zeromerge",
        "ZeroMerge",
        2025,
        _ARXIV + "2503.10714",
        scorer=_HEAVY,
        reducer=Part(_REDUCERS + "residual:ResidualMerge"),
    ),
    Recipe(
        "ems",
        "EMS: Evict-then-Merge",
        2024,
        _ARXIV + "2412.08521",
        scorer=Part(_SCORERS + "global_local:GlobalAndLocal"),
        reducer=Part(
            _NEAREST,
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
        reducer=Part(_REDUCERS + "next_values:NextValues"),
    ),
    Recipe(
        "tome",
        "Token Merging, on keys",
        2022,
        _ARXIV + "2210.09461",
        scorer=Part(_SCORERS + "alternating:LeastRedundant"),
        reducer=Part(_NEAREST, {"weighting": "count", "count_bias": 1.0}),
    ),
)

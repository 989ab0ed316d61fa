"""What parts of recipes are called, and where their classes live. Knows no torch.

Memories and leaderboards store the names on the left, so a name never changes its meaning; a class
may move. A part of another package is named by its place and called after its class.
"""

import re

from tasm.errors import RecipeError, did_you_mean

PARTS = {
    "answer-aware": "scorers.answer_aware:AnswerAware",
    "effect": "scorers.effect:Effect",
    "equal": "scorers.simple:Equal",
    "expected-attention": "scorers.expected_attention:ExpectedAttention",
    "global-and-local": "scorers.global_local:GlobalAndLocal",
    "heavy-hitters": "scorers.heavy_hitters:HeavyHitters",
    "key-difference": "scorers.keys:KeyDifference",
    "key-norm": "scorers.keys:KeyNorm",
    "least-redundant": "scorers.alternating:LeastRedundant",
    "observation-window": "scorers.window:ObservationWindow",
    "probe-attention": "scorers.probes:ProbeAttention",
    "random": "scorers.simple:Random",
    "recent": "scorers.simple:Recent",
    "reconstruction": "scorers.reconstruction:Reconstruction",
    "slot-founders": "slots:SlotFounders",
    "task-scorer": "scorers.tasm:TaskScorer",
    "text-first": "scorers.text_first:TextFirst",
    "text-raters": "scorers.visual:TextRaters",
    "visual-attention": "scorers.visual:VisualAttention",
    "accepted-ratios": "budgets.accepted_ratios:AcceptedRatios",
    "compromise": "budgets.compromise:Compromise",
    "dense-first": "budgets.dense_first:DenseFirst",
    "importance-mass": "budgets.mass:ImportanceMass",
    "inverse-variance": "budgets.variance:InverseVariance",
    "measured": "budgets.measured:Measured",
    "neyman": "budgets.neyman:Neyman",
    "pooled": "budgets.pooled:Pooled",
    "pyramid": "budgets.pyramid:Pyramid",
    "uniform": "budgets.uniform:Uniform",
    "attention-matching": "reducers.attention_matching:AttentionMatching",
    "drop": "reducers.drop:Drop",
    "fitted-values": "reducers.fitted:FittedValues",
    "nearest-merge": "reducers.nearest:NearestMerge",
    "next-values": "reducers.next_values:NextValues",
    "residual-merge": "reducers.residual:ResidualMerge",
    "run-merge": "reducers.runs:RunMerge",
    "slot-merge": "slots:SlotMerge",
    "spatial-merge": "reducers.merge:SpatialMerge",
}
"""This package's parts: `file:Class` under `tasm.compress.parts`, by name."""

DRAWING = ("random", "next-values")
"""Those that draw at random, whatever their settings."""

_ROOM = "tasm.compress.parts."


def place_of(part: str) -> str:
    """Return where a part's class lives, `module:Class`; `part` is a name of `PARTS` or a place.

    ```python
    >>> place_of("drop")
    'tasm.compress.parts.reducers.drop:Drop'
    ```

    Raises RecipeError for a name there is not, and for a place outside this package whose class is
    called like a part of it.
    """
    if part in PARTS:
        return _ROOM + PARTS[part]
    if not re.fullmatch(r"[\w.]+:\w+", part):
        raise RecipeError(
            f"There is no part {part!r}.{did_you_mean(part, PARTS)} Expected a name, such as "
            "'drop', or where a class lives, such as 'my_package.module:Class'."
        )
    own = PARTS.get(name_of(part))
    if own is not None and part != _ROOM + own:
        raise RecipeError(
            f"The part {part!r} would be stored as {name_of(part)!r}, as this package's own is. "
            "Give the class another name."
        )
    return part


def name_of(part: str) -> str:
    """Return a part's short name, from that or from wherever its class lives or once lived.

    ```python
    >>> name_of("tasm.build.scorers.tasm:TaskScorer"), name_of("task-scorer")
    ('task-scorer', 'task-scorer')
    ```
    """
    called = part.rpartition(":")[2]
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", called).lower()

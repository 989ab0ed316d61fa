"""What a stream may keep, before and while its tokens come."""

from collections.abc import Callable, Iterable

from tasm.backbone.model import Backbone
from tasm.compress.prefill import Progress
from tasm.compress.settings import Settings, Targets, costs_for, targets_at
from tasm.compress.sizes import parse_size
from tasm.compress.streams.arriving import Chunk
from tasm.errors import RecipeError

Budget = Callable[[int, int], Targets]
"""What a build may keep after so many tokens, the first of them the head's."""


def budget_of(settings: Settings, backbone: Backbone, tokens: int | None) -> Budget:
    """Return the budget of a stream of so many tokens; where nobody knows them, shares are meant of
    what has come so far.

    Raises RecipeError for a recipe that divides a budget of tokens over all chunks.
    """
    if tokens is not None:
        whole: list[Targets] = []

        def known(_: int, head: int) -> Targets:
            if not whole:
                costs = costs_for(settings, backbone, tokens, head)
                whole.append(targets_at(settings, costs, _unsaid))
            return whole[0]

        return known
    core, bank = parse_size(settings.core, "core"), parse_size(settings.bank, "bank")
    if settings.recipe.streaming == "append" and core.unit != "share":
        raise RecipeError(
            f"The recipe {settings.recipe.name!r} divides its core over all chunks, and how many "
            f"come is not known: a core of {settings.core} has no meaning here. Give a share, such "
            "as 20%, or a file or list instead of a generator."
        )
    wished = sum(int(one.amount) for one in (core, bank) if one.unit == "tokens")

    def so_far(read: int, head: int) -> Targets:
        return targets_at(settings, costs_for(settings, backbone, max(read, wished), head), _unsaid)

    return so_far


def is_about_tokens(settings: Settings) -> bool:
    """Whether core and bank are numbers of tokens, whatever comes."""
    sizes = (parse_size(settings.core, "core"), parse_size(settings.bank, "bank"))
    counted = all(one.unit == "tokens" or one.amount == 0 for one in sizes)
    return counted and settings.recipe.streaming != "append"


def count_tokens(chunks: Iterable[Chunk], progress: Progress) -> tuple[int, int]:
    """Return the tokens and the demonstrations of all chunks."""
    total = demonstrations = 0
    for chunk in chunks:
        total += len(chunk.transcript)
        demonstrations += len(chunk.demonstrations)
        progress("count", demonstrations, 0)
    return total, demonstrations


def _unsaid(sentence: str) -> None:
    """What a budget comes to is said once, of all that came."""

"""The refusal of a conversation that is longer than the model was trained for."""

from tasm.errors import InputError

FEWER_DEMONSTRATIONS = (
    "Use fewer demonstrations, smaller images (--max-pixels), or --mode streaming."
)


def check_positions(
    *,
    next_position: int,
    query_positions: int,
    new_tokens: int,
    max_positions: int | None,
    advice: str = FEWER_DEMONSTRATIONS,
) -> None:
    """Raise `InputError` when a memory, a query and its answer pass what the model was trained for.

    All figures are positions; `max_positions` is None where the model does not say. `advice` ends
    the message: what would fit.

    ```python
    check_positions(next_position=31_900, query_positions=80, new_tokens=32, max_positions=32_768)
    ```
    """
    needed = next_position + query_positions + new_tokens
    if max_positions is None or needed <= max_positions:
        return
    raise InputError(
        f"The model was trained for {max_positions:,} positions, and this needs {needed:,}: "
        f"{next_position:,} for the demonstrations, {query_positions:,} for the question and "
        f"{new_tokens:,} for the answer. {advice}"
    )

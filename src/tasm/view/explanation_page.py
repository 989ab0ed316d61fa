"""`tasm ask --explain --html`: one answer with the demonstrations that it drew on, as a page.

Pictures and texts of the demonstrations lie under heat maps of what attention read of them. It
reads an answer and the thumbnails stored with the memory; it asks nothing.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tasm.errors import InputError
from tasm.view.heat_maps import Shares
from tasm.view.html_page import render, share
from tasm.view.memory_cards import cards_of
from tasm.view.thumbnails import address, thumbnails

if TYPE_CHECKING:
    from tasm.answer import Answer
    from tasm.answer.result import DemonstrationWeight
    from tasm.memory import TaskMemory

OPEN_CARDS = 12
MOST_CARDS = 60


def explanation_page(answer: "Answer", memory: "TaskMemory") -> str:
    """Return the page of an answer that was asked for with `explain`, from this memory.

    ```python
    answer = model.ask(memory, images=["x.png"], question="Which bird is this?", explain=True)
    Path("why.html").write_text(explanation_page(answer, memory))
    ```

    Raises `InputError` for an answer without an explanation or of another memory.
    """
    weights = answer.token_weights
    if weights is None or not answer.demonstrations:
        raise InputError("The answer holds no explanation. Ask with explain=True (--explain).")
    if weights.shape[1] != len(memory.tokens):
        raise InputError(
            f"The explanation is of a memory of {weights.shape[1]} tokens, this one has "
            f"{len(memory.tokens)}. Give the memory that was asked."
        )
    core, retrieved = _as_heat(weights.float().cpu().numpy())
    ranked = sorted(answer.demonstrations, key=lambda one: -one.rank)
    by_number = {card.number: card for card in cards_of(memory, core, retrieved)}
    places = {entry.id: number for number, entry in enumerate(memory.demonstrations, start=1)}
    cards = [
        replace(by_number[places[one.id]], held=_figures(one))
        for one in ranked[:MOST_CARDS]
        if places[one.id] in by_number
    ]
    query, sure = answer.query, answer.confidence
    return render(
        "explanation.html",
        title="What an answer drew on",
        name=memory.place.name if memory.place is not None else "a task memory",
        question="" if query is None else query.question,
        pictures=[address(one) for one in thumbnails([query] if query else []).values()],
        answer=answer.text or "(an empty answer)",
        confidence="" if sure is None else share(sure),
        has_effects=ranked[0].effect is not None,
        memory={"layers": 0, "has_bank": bool(retrieved.any())},  # one layer: the sum of all
        open_cards=cards[:OPEN_CARDS],
        folded_cards=cards[OPEN_CARDS:],
        others=len(answer.demonstrations) - len(cards),
        unnamed=() if cards else tuple((one.id, _figures(one)) for one in ranked[:MOST_CARDS]),
    )


def _as_heat(weights: Shares) -> tuple[Shares, Shares]:
    """(1, tokens) each, from 0 to 1: the token that counts most is 1, others by their root, so that
    a tenth of it is still seen."""
    most = max(float(weights.max()), 1e-30)
    core, retrieved = np.sqrt(np.clip(weights, 0, None) / most).astype(np.float32)
    return core[None], retrieved[None]


def _figures(one: "DemonstrationWeight") -> tuple[tuple[str, str], ...]:
    figures = [("read", share(one.weight)), ("attention", share(one.attention))]
    if one.retrieved:
        figures.insert(1, ("of it from the bank", share(one.retrieved)))
    if one.support is not None:
        figures.insert(0, ("speaks for the answer", f"{100 * one.support:+.0f}\xa0%"))
    if one.effect is not None:
        figures.insert(0, ("log-odds lost without it", f"{one.effect:+.2f} nats"))
    return tuple(figures)

"""Texts of a demonstration cut into their tokens, each with the share of heads that keep it.

A memory records where its text tokens end; one that does not (of an earlier tasm) gives its texts
whole, with the mean over their tokens. Knows no tokenizer and no HTML.
"""

from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tasm.demonstrations.marks import split_at_marks
from tasm.view.heat_maps import BANK_COLOUR, CORE_COLOUR, Shares, as_sprite

if TYPE_CHECKING:
    from tasm.memory import DemonstrationEntry

LONGEST = 4000  # characters of one text that a page shows
SLICE = 200  # characters of one piece, so that a text without known tokens can be cut, too
OPEN = 420  # characters of a long text that are seen before it is unfolded
TEXT_STRONGEST = 0.5  # letters stay readable on it, light and dark
BANK_ROW_HEIGHT = 12  # more than a line of text is high, in bars: one layer at a time is seen


@dataclass(frozen=True)
class Piece:
    """A few characters that share their tokens: `number` is their column in the sprites.

    `picture` is the number of a picture that stands here instead of text. `core` and `bank` are
    means over the layers.
    """

    text: str
    number: int = -1
    core: float = 0.0
    bank: float = 0.0
    picture: int | None = None


@dataclass(frozen=True)
class ColouredText:
    """One message: pieces seen at once, pieces that are folded, and the sprites of all of them.

    `cut` is how many characters are not shown at all, `pictures` how many pictures stand in it.
    """

    role: str
    pieces: tuple[Piece, ...]
    folded: tuple[Piece, ...]
    columns: int
    core: float
    bank: float
    core_sprite: str
    bank_sprite: str
    cut: int
    pictures: int


def coloured_texts(
    entry: "DemonstrationEntry", core: Shares, bank: Shares, text_tokens: NDArray[np.intp]
) -> list[ColouredText]:
    """Return the messages of a demonstration in their order; none where texts were left out.

    `core` and `bank` are `kept_shares` (layers, transcript tokens), with one layer where only means
    are shown; `text_tokens` are the transcript's indices of the demonstration's text tokens.
    """
    texts = [*entry.earlier, entry.question, entry.answer]
    if entry.question is None or entry.answer is None:
        return []
    ends = entry.text_ends
    known = len(ends) == len(texts) and sum(map(len, ends)) == len(text_tokens)
    found, first, picture = [], 0, 0
    for number, text in enumerate(texts):
        if text is None:
            continue
        role = "answer" if number % 2 else "question"
        own = text_tokens[first : first + len(ends[number])] if known else text_tokens
        places = ends[number] if known else (len(text),) * len(own)
        first += len(places) if known else 0
        made = _coloured(role, text, places, core[:, own], bank[:, own], picture)
        picture += made.pictures
        found.append(made)
    return found


def _coloured(
    role: str, text: str, ends: tuple[int, ...], core: Shares, bank: Shares, picture: int
) -> ColouredText:
    stretches = _stretches(text, ends)
    tokens = [list(own) for _, own in stretches]
    by_core = _means(core, tokens)
    by_bank = _means(bank, tokens)
    pieces: list[Piece] = []
    for number, (stretch, _) in enumerate(stretches):
        shares = float(by_core[:, number].mean()), float(by_bank[:, number].mean())
        for place, part in enumerate(split_at_marks(stretch)):
            if place:
                pieces.append(Piece("", picture=picture))
                picture += 1
            if not any(piece.text for piece in pieces):
                part = part.lstrip()  # white space between a picture and its question
            pieces += [
                Piece(part[start : start + SLICE], number, *shares)
                for start in range(0, len(part), SLICE)
            ]
    seen, folded, cut = _within(pieces)
    return ColouredText(
        role=role,
        pieces=tuple(seen),
        folded=tuple(folded),
        columns=len(stretches),
        core=float(core.mean()) if core.size else 0.0,
        bank=float(bank.mean()) if bank.size else 0.0,
        core_sprite=as_sprite(by_core[:, None], CORE_COLOUR, strongest=TEXT_STRONGEST),
        bank_sprite=as_sprite(
            by_bank[:, None], BANK_COLOUR, strongest=1.0, row_height=BANK_ROW_HEIGHT
        ),
        cut=cut,
        pictures=sum(piece.picture is not None for piece in pieces),
    )


def _stretches(text: str, ends: tuple[int, ...]) -> list[tuple[str, list[int]]]:
    """Characters and the tokens that end with them; what no token ends goes to the last."""
    found: list[tuple[str, list[int]]] = []
    start = 0
    for end, tokens in groupby(range(len(ends)), key=lambda token: min(ends[token], len(text))):
        if end > start or not found:
            found.append((text[start:end], list(tokens)))
            start = end
        else:
            found[-1][1].extend(tokens)
    if not found:
        return [(text, [])]
    last, tokens_of_last = found[-1]
    found[-1] = (last + text[start:], tokens_of_last)
    return found


def _means(shares: Shares, tokens: list[list[int]]) -> Shares:
    """(layers, stretches): the mean over each stretch's tokens."""
    if not any(tokens):
        return np.zeros((len(shares), len(tokens)), np.float32)
    columns = [shares[:, own].mean(1) if own else np.zeros(len(shares)) for own in tokens]
    return np.stack(columns, axis=1).astype(np.float32)


def _within(pieces: list[Piece]) -> tuple[list[Piece], list[Piece], int]:
    """Pieces seen at once, pieces to be unfolded, and the number of characters left out."""
    total = sum(len(piece.text) for piece in pieces)
    if total <= 1.25 * OPEN:
        return pieces, [], 0
    seen: list[Piece] = []
    folded: list[Piece] = []
    before = 0
    for piece in pieces:
        if before < OPEN:
            seen.append(piece)
        elif before < LONGEST or piece.picture is not None:
            folded.append(piece)
        before += len(piece.text)
    shown = sum(len(piece.text) for piece in (*seen, *folded))
    return seen, folded, total - shown

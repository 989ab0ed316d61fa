"""Questions that nobody asked: demonstrations' own with other words and other pictures.

A kind says what becomes of the text and of the pictures. Knows demonstrations and words; runs no
model.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from tasm.compress.polish.changed_pictures import part_of, quarters_of
from tasm.demonstrations import Demonstration, Message, Query
from tasm.demonstrations.picture import Picture

Text = Literal["its own", "a word after", "a word instead", "a word alone"]
Shown = Literal["its own", "none", "a part", "quarters", "another's", "a part of another's"]
TEXTS: tuple[Text, ...] = ("a word after", "a word instead", "a word alone")
PICTURES: tuple[Shown, ...] = (
    "its own",
    "none",
    "a part",
    "quarters",
    "another's",
    "a part of another's",
)


@dataclass(frozen=True)
class Kind:
    """What becomes of a demonstration's question: its text, by which word, and its pictures.

    ```python
    Kind("a word after", "left", "none").of(demonstration, [], random.Random(0))
    ```
    """

    text: Text = "its own"
    word: str = ""
    shown: Shown = "its own"

    def of(
        self, demonstration: Demonstration, pictures: Sequence[Picture], rng: random.Random
    ) -> Query:
        """Return the question of this kind that a demonstration's becomes; `pictures` are those of
        all demonstrations."""
        turns = demonstration.turns[:-1]
        asked = turns[-1]
        own = " ".join(part for part in asked.content if isinstance(part, str))
        text = self._text(own, rng)
        content: list[str | Picture] = []
        said = False
        for part in asked.content:
            if isinstance(part, str):
                content += [] if said else [text]
                said = True
            elif self.shown != "none":
                content.append(self._picture(part, pictures, rng))
        if not said:
            content.append(text)
        return Query(demonstration.id, (*turns[:-1], replace(asked, content=tuple(content))))

    def _text(self, own: str, rng: random.Random) -> str:
        if self.text == "its own":
            return own
        if self.text == "a word alone" or not own.split():
            return self.word
        if self.text == "a word after":
            return f"{own.strip()} {self.word}"
        words = own.split()
        words[rng.randrange(len(words))] = self.word
        return " ".join(words)

    def _picture(self, own: Picture, pictures: Sequence[Picture], rng: random.Random) -> Picture:
        if self.shown == "its own":
            return own
        if self.shown == "a part":
            return Picture(part_of(own.load(), rng))
        if self.shown == "quarters":
            return Picture(
                quarters_of([own.load(), *(rng.choice(pictures).load() for _ in range(3))], rng)
            )
        other = rng.choice(pictures)
        return other if self.shown == "another's" else Picture(part_of(other.load(), rng))


def kinds_of(words: Sequence[str], has_pictures: bool) -> list[Kind]:
    """Return every kind of question there is with some words."""
    shown = PICTURES if has_pictures else PICTURES[:1]
    changed = [Kind(text, word, how) for text in TEXTS for word in words for how in shown]
    return [*(Kind(shown=how) for how in shown), *changed]


def pictures_of(demonstrations: Sequence[Demonstration]) -> list[Picture]:
    """Return the pictures of demonstrations' last questions."""
    return [picture for one in demonstrations for picture in one.turns[-2].pictures]


def asked_anew(demonstration: Demonstration) -> Query:
    """Return a demonstration's own question."""
    return Query(demonstration.id, demonstration.turns[:-1])


def with_word(demonstration: Demonstration, word: str) -> Query:
    """Return a demonstration's question without pictures and earlier turns, a word after it."""
    parts = demonstration.turns[-2].content
    text = " ".join(part for part in parts if isinstance(part, str)).strip()
    return Query(demonstration.id, (Message("user", (f"{text} {word}",)),))

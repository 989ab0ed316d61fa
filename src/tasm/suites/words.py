"""The words: which name things, and which labels training never sees."""

from __future__ import annotations

import hashlib
from functools import cache
from itertools import product
from random import Random

from tasm.suites.pictures import COLOURS, SHAPES

ASKING = "name what which this word call say tell label term title called".split()
NOTED = "ok seen noted yes fine good".split()
PLACES = ("northwest", "northeast", "southwest", "southeast")
NUMBERS = "zero one two three four five six seven eight nine".split()
OTHER = (
    "left right top bottom where how many count number colour shape size place read letter "
    "the is of a in it picture image and or no not find locate big small first second third last"
).split()
CONSONANTS, VOWELS = "bdfgklmnprstvwyz", "aeiou"
SYLLABLES = tuple(c + v for c, v in product(CONSONANTS, VOWELS))
SINGLES = 400


@cache
def nonce() -> tuple[str, ...]:
    """Made-up words of one token: consonant, vowel, consonant."""
    every = ["".join(p) for p in product(CONSONANTS, VOWELS, CONSONANTS)]
    real = set(ASKING) | set(NOTED) | set(NUMBERS) | set(OTHER) | set(COLOURS) | set(SHAPES)
    return tuple(sorted(Random(11).sample([w for w in every if w not in real], SINGLES)))


def held_out(word: str) -> bool:
    """A fifth of the words of two syllables is never a label in training."""
    return hashlib.sha256(f"word {word}".encode()).digest()[0] % 5 == 0


def labels(rng: Random, count: int, split: str, long: bool) -> list[str]:
    """Labels that share no syllable (up to 72 of them); held-out ones are always of two tokens."""
    if split == "train" and not long:
        return rng.sample(nonce(), count)
    first, second, words = list(SYLLABLES), list(SYLLABLES), list[str]()
    in_vain = 0
    while len(words) < count:
        in_vain += 1
        if len(first) < 8 or in_vain > 1000:  # what is left may make no new word
            first, second, in_vain = list(SYLLABLES), list(SYLLABLES), 0
        a = rng.choice(first)
        fits = [b for b in second if held_out(a + b) == (split == "held-out")]
        if not fits:
            continue
        b = rng.choice(fits)
        if a + b not in words:
            first.remove(a)
            second.remove(b)
            words.append(a + b)
            in_vain = 0
    return words

"""What is worth asking: words and kinds of questions whose answers are sure, and differ.

Of several questions of a kind the full context gives first tokens: where each is sure and one is
not like the other, the kind asks for something that demonstrations hold. On the bundled suite
`needle` a place after a tag comes first, which no demonstration says. Knows what the full context
answers; not what is done with it.
"""

import random
from collections.abc import Sequence

import torch
from torch import Tensor

from tasm.backbone.hugging_face import HfTokenizer
from tasm.compress.polish.questions import Kind, kinds_of, pictures_of, with_word
from tasm.compress.polish.teaching import Teacher
from tasm.demonstrations import Demonstration

TRIED = 768
"""Words of the vocabulary that are tried at most, drawn at random."""

WORDS = 5
"""Words that kinds of questions are made with."""

KINDS = 16
"""Kinds of questions that are asked, one half to learn of and the other to judge by."""

_TOLD_APART = 2
_OF_A_KIND = 4
_LONGEST = 24
_KINDS_AT_ONCE = 16
_WORDS_AT_ONCE = 32
"""Few, as each question has a probability for every token of the vocabulary."""


def telling_kinds(
    teacher: Teacher, demonstrations: Sequence[Demonstration], rng: random.Random
) -> list[Kind]:
    """Return the kinds of questions whose answers are sure and differ most, the best first."""
    pictures = pictures_of(demonstrations)
    kinds = kinds_of(telling_words(teacher, demonstrations, rng), bool(pictures))
    worth = []
    for first in range(0, len(kinds), _KINDS_AT_ONCE):
        some = kinds[first : first + _KINDS_AT_ONCE]
        made = [
            kind.of(rng.choice(demonstrations), pictures, rng)
            for kind in some
            for _ in range(_OF_A_KIND)
        ]
        found = teacher.first_tokens(made).unflatten(0, (len(some), _OF_A_KIND))
        worth.append(_entropy(found.mean(1)) - 2 * _entropy(found).mean(1))
    return [kinds[number] for number in _best(worth, KINDS)]


def telling_words(
    teacher: Teacher, demonstrations: Sequence[Demonstration], rng: random.Random
) -> list[str]:
    """Return the words whose answers tell two demonstrations apart best, the best first."""
    words = vocabulary(teacher.backbone.tokenizer, rng)
    several = rng.sample(list(demonstrations), min(_TOLD_APART, len(demonstrations)))
    if not words or len(several) < _TOLD_APART:
        return words[:WORDS]
    told = []
    for first in range(0, len(words), _WORDS_AT_ONCE):
        some = words[first : first + _WORDS_AT_ONCE]
        asked = [with_word(one, word) for one in several for word in some]
        found = teacher.first_tokens(asked).unflatten(0, (len(several), len(some)))
        told.append(_entropy(found.mean(0)) - _entropy(found).mean(0))
    return [words[number] for number in _best(told, WORDS)]


def _best(worth: Sequence[Tensor], most: int) -> list[int]:
    known = torch.cat(list(worth)).nan_to_num(nan=-torch.inf)  # sorted, what is no number is first
    order = known.sort(descending=True, stable=True).indices
    return [int(number) for number in order[:most]]


def vocabulary(tokenizer: HfTokenizer, rng: random.Random) -> list[str]:
    """Return whole words of a tokenizer's vocabulary, `TRIED` at most."""
    every = {tokenizer.decode([number]).strip() for number in range(len(tokenizer))}
    words = sorted(word for word in every if word.isalnum() and len(word) <= _LONGEST)
    return words if len(words) <= TRIED else rng.sample(words, TRIED)


def _entropy(probabilities: Tensor) -> Tensor:
    return -(probabilities * probabilities.clamp(min=1e-9).log()).sum(-1)

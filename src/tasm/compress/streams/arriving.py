"""Demonstrations that come one at a time, laid out as chunks of tokens.

A few are laid out together, each as it stands in one conversation of all, so that the chunks are
those of the whole transcript and never more than a chunk and a few demonstrations are held. Knows
transcripts; no caches and no memories.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch

from tasm.backbone.model import Backbone
from tasm.backbone.prompt.transcript import Transcript, joined
from tasm.compress.replay import alone
from tasm.compress.settings import Settings
from tasm.demonstrations import Demonstration, shared_system
from tasm.errors import InputError

TOGETHER = 4
"""Demonstrations laid out at a time."""

KEPT_IMAGE_BYTES = 1 << 25
"""Image tensors kept of them; more are made again when their chunk is read."""

NOTHING_READ = ""
"""The digest of no demonstrations."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Some demonstrations as tokens, numbers as in the whole transcript; the first has the head.

    `digest` tells the contents of all demonstrations up to these.
    """

    transcript: Transcript
    demonstrations: Sequence[Demonstration]
    digest: str


@dataclass(frozen=True)
class Done:
    """What was read before: how many demonstrations and images, and their digest."""

    demonstrations: int = 0
    images: int = 0
    digest: str = NOTHING_READ


def arriving_chunks(
    backbone: Backbone,
    demonstrations: Iterable[Demonstration],
    settings: Settings,
    done: Done = Done(),
) -> Iterator[Chunk]:
    """Yield the chunks of demonstrations that come, without those that are `done`.

    ```python
    for chunk in arriving_chunks(backbone, stream_demonstrations("birds.jsonl"), settings):
        backbone.encode(chunk.transcript, cache)
    ```

    Raises InputError where the first ones are others than those that were done.
    """
    rows = _Rows(demonstrations)
    rows.skip(done)
    waiting: list[Demonstration] = []
    parts: list[Transcript] = []
    digests: list[str] = []
    number, image, tokens = done.demonstrations, done.images, 0

    def chunk() -> Chunk:
        nonlocal number, image, tokens
        numbers = torch.tensor(rows.answers[: number + len(parts)], dtype=torch.int64)
        whole = joined(parts, number, image, numbers)
        made = Chunk(whole, tuple(waiting), digests[-1])
        number, image, tokens = number + len(parts), image + len(whole.images), 0
        waiting.clear()
        parts.clear()
        digests.clear()
        return made

    begins = done.demonstrations == 0
    while group := list(islice(rows, TOGETHER)):
        system = settings.system
        if system is None:
            assert rows.first is not None
            system = shared_system([rows.first, *(one for one, _ in group)])
        laid_out = backbone.transcript(
            [one for one, _ in group],
            system=system,
            max_pixels=settings.max_pixels,
            kept_bytes=KEPT_IMAGE_BYTES,
        )
        if rows.shows_pictures:
            laid_out = replace(laid_out, layout=replace(laid_out.layout, multi_image=True))
        for place, (one, digest) in enumerate(group):
            part = laid_out.chunk(0, 1) if begins else alone(laid_out, place)
            begins = False
            if parts and tokens + len(part) > settings.chunk_tokens:
                yield chunk()
            waiting.append(one)
            parts.append(part)
            digests.append(digest)
            tokens += len(part)
    if parts:
        yield chunk()


class _Rows(Iterator[tuple[Demonstration, str]]):
    """Demonstrations, and the digest of all up to each one."""

    def __init__(self, demonstrations: Iterable[Demonstration]) -> None:
        self._rows = iter(demonstrations)
        self._digest = NOTHING_READ
        self._numbers: dict[bytes, int] = {}
        self.answers: list[int] = []
        self.first: Demonstration | None = None
        self.shows_pictures = False

    def __next__(self) -> tuple[Demonstration, str]:
        one = next(self._rows)
        self._digest = _and(self._digest, one)
        answer = hashlib.sha256(one.answer.encode(errors="surrogatepass")).digest()[:16]
        self.answers.append(self._numbers.setdefault(answer, len(self._numbers)))
        self.first = self.first or one
        self.shows_pictures |= bool(one.pictures)
        return one, self._digest

    def skip(self, done: Done) -> None:
        """Pass over what was read before."""
        for number in range(done.demonstrations):
            if next(self, None) is None:
                raise InputError(
                    f"The unfinished build has read {done.demonstrations:,} demonstrations, and "
                    f"here are {number:,}. Give the same ones again, or begin anew."
                )
        if self._digest != done.digest:
            raise InputError(
                f"The unfinished build has read other demonstrations: the first "
                f"{done.demonstrations:,} are not the same. Give the same ones again, in their "
                "order, or begin anew."
            )


def _and(digest: str, one: Demonstration) -> str:
    named = f"{digest}\0{one.id}\0{one.content_hash}".encode(errors="surrogatepass")
    return hashlib.sha256(named).hexdigest()

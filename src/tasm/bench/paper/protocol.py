"""The papers' protocol: 100 items set apart as demonstrations, the rest asked, greedily.

Demonstrations are drawn once with fixed seeds, so every line of a table sees the same ones.
"""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasm.answer import ask_all, zero_shot_answers
from tasm.backbone.prompt.transcript import Layout
from tasm.bench.intervals import Interval, interval
from tasm.bench.paper.benchmarks import DRAW_SEED, POOL, POOL_SEED, Benchmark
from tasm.bench.paper.items import Item, item
from tasm.bench.paper.metrics import METRICS
from tasm.bench.paper.published import Line
from tasm.bench.paper.reading import read_rows
from tasm.compress.api import build
from tasm.demonstrations import Demonstration, Picture, Query, make_query, read_demonstrations
from tasm.errors import InputError

if TYPE_CHECKING:
    from tasm.backbone.model import Backbone

HAYSTACK = "haystack"
DEPTHS = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True)
class Episode:
    """One set of demonstrations and the items it is asked about."""

    demonstrations: list[Demonstration]
    items: list[Item]


@dataclass(frozen=True)
class PaperData:
    """A benchmark's rows, split by the protocol.

    `limit` is the largest number of tested items, None for all.
    """

    benchmark: Benchmark
    data: Path | None
    limit: int | None = None

    @cached_property
    def _split(self) -> tuple[list[Item], list[Item]]:
        """The pool and the tested items."""
        benchmark = self.benchmark
        rows = read_rows(benchmark, benchmark.split, self.data)
        if benchmark.demonstration_split is not None:
            pool = read_rows(benchmark, benchmark.demonstration_split, self.data)
            return [item(benchmark, row) for row in pool], [item(benchmark, row) for row in rows]
        if benchmark.haystack:
            return [], [item(benchmark, row) for row in rows]
        apart = set(random.Random(POOL_SEED).sample(range(len(rows)), min(POOL, len(rows) // 2)))
        items = [item(benchmark, row) for row in rows]
        return (
            [items[number] for number in sorted(apart)],
            [one for number, one in enumerate(items) if number not in apart],
        )

    @property
    def tested(self) -> list[Item]:
        """The items that are asked."""
        return self._split[1][: self.limit]

    def count(self, demonstrations: str) -> int:
        """Return a number of demonstrations: "none", "few", "many" or digits."""
        named = {"none": 0, "few": self.benchmark.few, "many": self.benchmark.many}
        return named[demonstrations] if demonstrations in named else int(demonstrations)

    def episodes(self, demonstrations: str) -> Iterator[Episode]:
        """Yield what is built and asked: one episode, or one a needle and depth in a haystack."""
        count = self.count(demonstrations)
        if not self.benchmark.haystack:
            yield Episode(self._drawn(count), self.tested)
            return
        for needle in self.tested:
            for depth in DEPTHS:
                yield Episode(self._haystack(needle, count, depth), [needle])

    def _drawn(self, count: int) -> list[Demonstration]:
        pool = self._split[0]
        if count > len(pool):
            raise InputError(
                f"{self.benchmark.title}: {count} demonstrations are wanted, the pool holds "
                f"{len(pool)}. More rows are needed."
            )
        chance = random.Random(DRAW_SEED)
        chosen = _evenly(pool, count, chance) if self.benchmark.per_class else None
        chosen = chosen or chance.sample(pool, count)
        return [one.demonstration(number) for number, one in enumerate(chosen)]

    def _haystack(self, needle: Item, count: int, depth: float) -> list[Demonstration]:
        pictures: list[Any] = list(self._hay[: count - 1])
        if len(pictures) < count - 1:
            raise InputError(
                f"{self.benchmark.title}: {count} images are wanted and there are "
                f"{len(self._hay)} of hay. Put pictures (a film's frames, say) into "
                f"DIR/{self.benchmark.name}/{HAYSTACK}/ and give --data DIR."
            )
        pictures.insert(round(depth * (count - 1)), needle.picture())
        rows = [
            {"id": f"picture-{number}", "images": [picture], "question": "", "answer": "Seen."}
            for number, picture in enumerate(pictures)
        ]
        for number, row in enumerate(rows):
            row["question"] = f"<image>This is picture {number + 1}."
        return read_demonstrations(rows)

    @cached_property
    def _hay(self) -> list[Any]:
        if self.data is None:
            return []
        side = self.benchmark.side
        files = sorted((self.data / self.benchmark.name / HAYSTACK).glob("*"))
        return [Picture(file).load().resize((side, side)) for file in files if file.is_file()]


def _evenly(pool: Sequence[Item], count: int, chance: random.Random) -> list[Item]:
    """Draw the same number of each class, in a random order."""
    classes: dict[str, list[Item]] = {}
    for one in pool:
        classes.setdefault(one.answer, []).append(one)
    drawn: list[Item] = []
    while len(drawn) < count:
        left = [members for members in classes.values() if members]
        for members in chance.sample(left, min(len(left), count - len(drawn))):
            drawn.append(members.pop(chance.randrange(len(members))))
    chance.shuffle(drawn)
    return drawn


def measure(
    backbone: "Backbone",
    data: PaperData,
    line: Line,
    *,
    batch_size: int = 8,
    progress: Callable[[str, int, int], None] | None = None,
) -> Interval:
    """Return the mean score of one line of a table on one benchmark, 0 to 1, with its interval.

    Raises:
        TasmError: if the recipe refuses the context, or the data is not there.
    """
    judge = METRICS[data.benchmark.metric]
    groups: list[list[float]] = []
    for seed, episode in enumerate(data.episodes(line.demonstrations)):
        answers = list(
            _answers(backbone, data.benchmark, episode, line, seed, batch_size, progress)
        )
        groups.append(
            [judge(said, one.accepted) for said, one in zip(answers, episode.items, strict=True)]
        )
    return interval(groups)


def _answers(
    backbone: "Backbone",
    benchmark: Benchmark,
    episode: Episode,
    line: Line,
    seed: int,
    batch_size: int,
    progress: Callable[[str, int, int], None] | None,
) -> Iterator[str]:
    assert line.recipe is not None  # lines without one are only printed
    memory = None
    if line.recipe != "zero-shot":
        memory = build(
            backbone,
            episode.demonstrations,
            recipe=line.recipe,
            core=None if line.recipe == "full" else line.core_of(benchmark.name),
            seed=seed,
        )
    for start in range(0, len(episode.items), batch_size):
        queries = [_query(one) for one in episode.items[start : start + batch_size]]
        if memory is None:
            found = zero_shot_answers(
                backbone, queries, layout=Layout(), max_new_tokens=benchmark.max_new_tokens
            )
        else:
            found = ask_all(
                backbone,
                memory,
                queries,
                batch_size=batch_size,
                max_new_tokens=benchmark.max_new_tokens,
            )
        yield from (answer.text for answer in found)
        if progress is not None:
            progress(f"{benchmark.name}, {line.label}", start + len(queries), len(episode.items))


def _query(one: Item) -> Query:
    """A needle's picture is in the haystack; everywhere else the query shows its own."""
    return make_query(one.question) if one.benchmark.haystack else one.query()

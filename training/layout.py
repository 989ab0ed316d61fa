"""Episodes as token batches, in the very layout that the chat template gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from random import Random

import torch
from torch import Tensor

from tasm.suites.episodes import Episode, Turn
from tasm.suites.pictures import Picture
from training import net
from training import tokenizer as tokens

SIDE = int(net.TOKENS**0.5)
HIDDEN = -30000.0  # added to the logit of what must not be seen


@lru_cache(maxsize=1)
def table() -> dict[str, int]:
    """The ids of all tokens."""
    return tokens.vocabulary()


@dataclass
class Guide:
    """Rows of attention that should fall on the marked columns, in one head of one layer."""

    rows: list[tuple[int, int]] = field(default_factory=list)
    columns: list[list[int]] = field(default_factory=list)


@dataclass
class Batch:
    """Padded sequences, and what training asks and hints at in them."""

    ids: Tensor
    positions: Tensor
    segments: Tensor
    pictures: list[Picture]
    spots: Tensor  # (pictures, 2): episode and first visual token
    rows: Tensor  # (targets, 2): episode and the place before the target
    targets: Tensor
    weights: Tensor
    asked: Tensor  # which targets are the first token of a query's answer
    guides: dict[tuple[int, int, int], Guide]
    twins: list[tuple[int, ...]]  # episode, place, class, its visual tokens
    sharp: bool  # whether those are a part of the picture
    facts: dict[str, list[tuple[int, int, int]]]  # episode, place, what the picture shows
    decides: dict[str, list[tuple[int, int, int]]]  # the same, of what the task turns on
    marks: list[tuple[int, int, int]]  # episode, visual token, what it shows
    inks: list[tuple[int, ...]]  # episode, place, red, green, blue

    def mask(self) -> Tensor:
        """(B, 1, 1, L, L): causal; queries see the demonstrations and themselves."""
        length = self.ids.shape[1]
        to, of = self.segments[:, :, None], self.segments[:, None, :]
        seen = (to == of) | ((of == 0) & (to >= 0))
        seen &= torch.ones(length, length, dtype=torch.bool).tril()
        return torch.where(seen, 0.0, HIDDEN)[:, None, None].to(torch.bfloat16)


@dataclass
class _Placed:
    """Where the parts of one turn lie in the sequence."""

    tag: list[int]
    visual: list[int]
    ask: int
    answer: list[int]


class _Row:
    """One episode's sequence as it grows."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.positions: list[tuple[int, int, int]] = []
        self.segments: list[int] = []
        self.pictures: list[tuple[int, Picture]] = []
        self.segment, self.at = 0, 0

    def text(self, ids: list[int]) -> list[int]:
        start = len(self.ids)
        for token in ids:
            self.ids.append(token)
            self.positions.append((self.at, self.at, self.at))
            self.segments.append(self.segment)
            self.at += 1
        return list(range(start, len(self.ids)))

    def picture(self, picture: Picture) -> list[int]:
        self.text([table()["<|vision_start|>"]])
        start = len(self.ids)
        self.pictures.append((start, picture))
        self.ids += [table()["<|image_pad|>"]] * net.TOKENS
        self.segments += [self.segment] * net.TOKENS
        for y in range(SIDE):
            self.positions += [(self.at, self.at + y, self.at + x) for x in range(SIDE)]
        self.at += SIDE
        return list(range(start, start + net.TOKENS))

    def turn(self, turn: Turn) -> _Placed:
        tag: list[int] = []
        visual: list[int] = []
        for part in turn.parts:
            if isinstance(part, Picture):
                visual = self.picture(part)
            else:
                new = self.text(tokens.text_ids(part, table()))
                if not visual and not tag:
                    tag = new
        ask = self.text([table()["<|answer|>"]])[0]
        answer = self.text([*tokens.text_ids(turn.answer, table()), table()["<|end|>"]])
        return _Placed(tag, visual, ask, answer)


def batch(
    episodes: list[Episode], gap: int = 0, rng: Random | None = None, closer: bool = False
) -> Batch:
    """A padded batch. `gap`: at most so many positions are skipped between demonstrations;
    `closer`: with what single visual tokens show, and inks."""
    rows, placed = [], []
    for episode in episodes:
        row, turns = _Row(), []
        for turn in episode.demonstrations:
            turns.append(row.turn(turn))
            if gap and rng is not None:
                row.at += rng.randint(0, gap)
        begin = row.at
        for turn in episode.queries:
            row.segment, row.at = row.segment + 1, begin
            turns.append(row.turn(turn))
        rows.append(row)
        placed.append(turns)
    length = max(len(row.ids) for row in rows)
    length += -length % 8
    count = len(rows)
    ids = torch.full((count, length), table()["<|pad|>"])
    positions, segments = torch.zeros(count, length, 3), torch.full((count, length), -1)
    for b, row in enumerate(rows):
        ids[b, : len(row.ids)] = torch.tensor(row.ids)
        positions[b, : len(row.ids)] = torch.tensor(row.positions, dtype=torch.float32)
        segments[b, : len(row.ids)] = torch.tensor(row.segments)
    guides: dict[tuple[int, int, int], Guide] = {}
    at: list[tuple[int, int]] = []
    targets: list[int] = []
    weights: list[float] = []
    asked: list[bool] = []
    twins: list[tuple[int, ...]] = []
    sharp = False
    facts: dict[str, list[tuple[int, int, int]]] = {}
    decides: dict[str, list[tuple[int, int, int]]] = {"ask": [], "word": []}
    marks: list[tuple[int, int, int]] = []
    inks: list[tuple[int, ...]] = []
    for b, (episode, turns) in enumerate(zip(episodes, placed, strict=True)):
        every = episode.demonstrations + episode.queries
        for index, (turn, here) in enumerate(zip(every, turns, strict=True)):
            _guide(guides, b, turn, here, turns)
            if turn.alike >= 0:
                cells = turn.sight or tuple(range(net.TOKENS))
                columns = [here.visual[c] for c in cells] * (net.TOKENS // len(cells))
                kind = b * 1000 + turn.alike
                places = [here.ask] if turn.sight else [here.ask, *here.answer[:-1]]
                if turn.sight and index < len(episode.demonstrations):
                    places = [here.visual[c] for c in turn.sight]
                twins += [(b, place, kind, *columns) for place in places]
                sharp = bool(turn.sight)
            for name, fact in turn.facts.items():
                found_ = [(b, r, fact) for r in [here.ask, *here.answer[:-1]]]
                facts.setdefault(name, []).extend(found_)
            if closer and turn.ink:
                inks += [(b, r, *turn.ink) for r in [here.ask, *here.answer[:-1]]]
            if closer:
                marks += [(b, *m) for m in zip(here.visual, turn.marks, strict=False)]
            if turn.decides >= 0:
                decides["ask"].append((b, here.ask, turn.decides))
                if index < len(episode.demonstrations):
                    decides["word"].append((b, here.answer[-2], turn.decides))
            if turn.weight == 0:
                continue
            for source, target in zip([here.ask, *here.answer], here.answer, strict=False):
                at.append((b, source))
                targets.append(rows[b].ids[target])
                weights.append(turn.weight)
                asked.append(index >= len(episode.demonstrations) and source == here.ask)
    found = [(b, start, p) for b, row in enumerate(rows) for start, p in row.pictures]
    return Batch(
        ids,
        positions.permute(2, 0, 1),
        segments,
        [p for _, _, p in found],
        torch.tensor([(b, start) for b, start, _ in found]),
        torch.tensor(at),
        torch.tensor(targets),
        torch.tensor(weights),
        torch.tensor(asked),
        guides,
        twins,
        sharp,
        facts,
        decides,
        marks,
        inks,
    )


def _guide(
    guides: dict[tuple[int, int, int], Guide],
    b: int,
    turn: Turn,
    here: _Placed,
    all_: list[_Placed],
) -> None:
    """Turn a turn's hints into rows and columns; a key is (layer, group, KV head)."""

    def add(layer: int, group: int, heads: tuple[int, ...], row: int, columns: list[int]) -> None:
        for head in heads:
            guide = guides.setdefault((layer, group, head), Guide())
            guide.rows.append((b, row))
            guide.columns.append(columns)

    if here.tag and (here.visual or len(turn.parts) == 1):
        pair = here.tag[:2] if len(here.tag) > 2 or here.visual else here.tag[:1]
        for row in [*here.visual, here.ask]:
            add(1, 1, (0,), row, [pair[0]])
            add(1, 1, (1,), row, [pair[-1]])
    both = (0, 1)
    merged: dict[tuple[int, str, bool], list[int]] = {}
    for hint in turn.hints:
        columns = merged.setdefault((hint.layer, hint.source, hint.cells is None), [])
        if hint.cells is None:
            columns.append(hint.turn)
        else:
            columns += [all_[hint.turn].visual[c] for c in hint.cells]
    for (layer, source, answers), found in merged.items():
        if answers and source == "word":
            row, columns = here.answer[-2], [all_[j].answer[-2] for j in found]
            add(layer, 0, both, row, columns)
        elif answers:
            add(layer, 0, both, here.ask, [all_[j].answer[0] for j in found])
            for k in range(len(here.answer) - 2):
                add(layer, 0, both, here.answer[k], [all_[j].answer[k + 1] for j in found])
        else:
            group = 0 if layer == 1 else 1
            add_rows = [here.ask, *here.answer[:-2]] if source == "ask" else here.answer[:-1]
            for row in add_rows:
                add(layer, group, both, row, found)

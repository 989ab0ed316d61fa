"""A demonstration as a card: its pictures under heat maps, its texts coloured, what is kept of it.

Pictures and texts are bounded, so that a page of many demonstrations stays a few megabytes.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np

from tasm.backbone.prompt.roles import Role
from tasm.view.coloured_text import ColouredText, coloured_texts
from tasm.view.heat_maps import (
    BANK_COLOUR,
    CORE_COLOUR,
    HeatMap,
    Shares,
    as_sprite,
    heat_maps,
)
from tasm.view.html_page import share
from tasm.view.thumbnails import address, size, within

if TYPE_CHECKING:
    from tasm.memory import DemonstrationEntry, TaskMemory

MOST_CARDS = 400
MOST_PICTURE_BYTES = 3_000_000
MOST_SPRITE_ENTRIES = 8_000_000  # (token, layer) pairs of which heat maps are drawn


@dataclass(frozen=True)
class ShownPicture:
    """A thumbnail (None where there is none), its width over height, and its two heat maps."""

    address: str | None
    ratio: float
    core_sprite: str
    bank_sprite: str | None


@dataclass(frozen=True)
class Message:
    """One message of a demonstration with the pictures that stand in it."""

    text: ColouredText
    pictures: tuple[ShownPicture, ...]
    first_picture: int


@dataclass(frozen=True)
class Card:
    """A demonstration: its number from 1, its name if it has one, its messages, what is kept."""

    number: int
    name: str | None
    messages: tuple[Message, ...]
    held: tuple[tuple[str, str], ...]


def drawn_layers(memory: "TaskMemory") -> int:
    """How many layers a reader may choose from; 0 where only their mean is drawn."""
    layers = len(memory.core)
    return layers if layers * len(memory.tokens) <= MOST_SPRITE_ENTRIES else 0


def cards_of(memory: "TaskMemory", core: Shares, bank: Shares) -> tuple[Card, ...]:
    """Return a card for each of the first demonstrations; none where texts and pictures were left
    out. `core` and `bank` are `kept_shares`."""
    entries = memory.demonstrations[:MOST_CARDS]
    if all(entry.question is None and not entry.pictures for entry in entries):
        return ()  # texts and pictures were left out
    if not drawn_layers(memory):
        core, bank = core.mean(0, keepdims=True), bank.mean(0, keepdims=True)
    maps = iter(heat_maps(memory, core, bank))
    roles = memory.tokens.roles.cpu().numpy()
    addresses = _addresses(memory, entries)
    cards = []
    for number, entry in enumerate(entries):
        own = np.concatenate(
            [np.arange(start, end) for start, end in entry.spans] or [np.arange(0)]
        )
        pictures = tuple(
            _picture(addresses.get(picture.sha256), heat)
            for picture, heat in zip(entry.pictures, maps, strict=False)
        )
        is_text = (roles[own] == Role.QUESTION) | (roles[own] == Role.ANSWER)
        texts = coloured_texts(entry, core, bank, own[is_text])
        cards.append(
            Card(
                number + 1,
                name_of(entry),
                tuple(_messages(texts, pictures)),
                tuple(_held(roles[own], core[:, own], bank[:, own])),
            )
        )
    return tuple(cards)


def _messages(texts: list[ColouredText], pictures: tuple[ShownPicture, ...]) -> list[Message]:
    """Give each message the pictures that its marks stand for; any left over go to the first."""
    marks = [text.pictures for text in texts]
    if sum(marks) != len(pictures):
        marks = [len(pictures), *[0] * (len(texts) - 1)]
    found, first = [], 0
    for text, count in zip(texts, marks, strict=False):
        found.append(Message(text, pictures[first : first + count], first))
        first += count
    return found


def name_of(entry: "DemonstrationEntry") -> str | None:
    """Return what a person would call a demonstration: its id, or the name of its picture's file.

    None where it has neither; an id that is but the hash of the content is no name.
    """
    if not entry.content_hash.startswith(entry.id):
        return entry.id
    for picture in entry.pictures:
        if picture.path:
            return PureWindowsPath(PurePosixPath(picture.path).name).name
    return None


def _addresses(
    memory: "TaskMemory", entries: "tuple[DemonstrationEntry, ...]"
) -> dict[str, tuple[str, float]]:
    """Every thumbnail as a data URI, with its width over height."""
    shown = {picture.sha256 for entry in entries for picture in entry.pictures}
    thumbnails = {name: data for name, data in memory.thumbnails().items() if name in shown}
    found = {}
    for name, content in within(thumbnails, MOST_PICTURE_BYTES).items():
        width, height = size(content)
        found[name] = address(content), width / height
    return found


def _picture(thumbnail: tuple[str, float] | None, heat: HeatMap) -> ShownPicture:
    _, height, width = heat.core.shape
    address, ratio = (None, width / height) if thumbnail is None else thumbnail
    return ShownPicture(
        address,
        round(ratio, 4),
        as_sprite(heat.core, CORE_COLOUR),
        as_sprite(heat.bank, BANK_COLOUR) if np.any(heat.bank) else None,
    )


_KINDS = {Role.IMAGE: "picture", Role.QUESTION: "question", Role.ANSWER: "answer"}


def _held(roles: Any, core: Shares, bank: Shares) -> list[tuple[str, str]]:
    """What is kept of each kind of token, in words: ("answer", "88 % core, 4 % bank")."""
    found = []
    for role, name in _KINDS.items():
        of_kind = roles == role
        if of_kind.any():
            kept, banked = float(core[:, of_kind].mean()), float(bank[:, of_kind].mean())
            found.append((name, both(kept, banked) if bank.any() else share(kept)))
    return found


def both(core: float, bank: float) -> str:
    """Core and bank as one text: `"12 + 40 %"`."""
    return f"{100 * core:.0f}\xa0+\xa0{100 * bank:.0f}\xa0%"

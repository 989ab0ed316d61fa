"""What a memory's page shows, as plain values: figures, bars, demonstrations, folded tables.

It reads a memory and the thumbnails stored with it; it follows no recorded path and loads no model.
Pictures and texts are bounded, so that a page of many demonstrations stays a few megabytes.
"""

from dataclasses import dataclass
from pathlib import PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any

import numpy as np

from tasm.backbone.prompt.roles import Role
from tasm.memory.showing import stored_as
from tasm.view.coloured_text import ColouredText, coloured_texts
from tasm.view.heat_maps import (
    BANK_COLOUR,
    CORE_COLOUR,
    HeatMap,
    Shares,
    as_sprite,
    data_uri,
    heat_maps,
    kept_shares,
)
from tasm.view.html_page import share
from tasm.view.tables import Bar, BarChart, Table
from tasm.view.thumbnails import size, within

if TYPE_CHECKING:
    from tasm.memory import DemonstrationEntry, TaskMemory

OPEN_CARDS = 12
MOST_CARDS = 400
MOST_PICTURE_BYTES = 3_000_000
MOST_SPRITE_ENTRIES = 8_000_000  # (token, layer) pairs of which heat maps are drawn
SHORT_TEXT = 90  # characters; cards of shorter texts stand two in a row on a phone


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


@dataclass(frozen=True)
class MemoryView:
    """Everything that the templates `kept.html` and `memory.html` write of a memory."""

    facts: tuple[tuple[str, str], ...]
    charts: tuple[BarChart, ...]
    has_bank: bool
    layers: int
    system: str | None
    cards: tuple[Card, ...]
    demonstrations: int
    is_short: bool
    tables: tuple[tuple[str, Table], ...]

    @property
    def open_cards(self) -> tuple[Card, ...]:
        """Cards that are seen at once."""
        return self.cards[:OPEN_CARDS]

    @property
    def folded_cards(self) -> tuple[Card, ...]:
        """Cards that a reader unfolds."""
        return self.cards[OPEN_CARDS:]


def view_of(memory: "TaskMemory") -> MemoryView:
    """Return what is shown of a memory.

    ```python
    view_of(tasm.load("birds.tasm")).cards[0].messages[-1].text.pieces
    ```

    Raises `DamageError` where a file of the memory is damaged.
    """
    core, bank = kept_shares(memory)
    cards = _cards(memory, core, bank)
    texts = [message.text for card in cards for message in card.messages]
    lengths = [sum(len(piece.text) for piece in (*text.pieces, *text.folded)) for text in texts]
    is_plain = all(
        len(card.messages) == 2 and sum(len(one.pictures) for one in card.messages) == 1
        for card in cards
    )
    return MemoryView(
        facts=tuple(_facts(memory)),
        charts=(_by_role(memory, core, bank), _by_layer(core, bank)),
        has_bank=memory.bank is not None,
        layers=_drawn_layers(memory),
        system=memory.layout.system if texts else None,
        cards=cards,
        demonstrations=len(memory.demonstrations),
        is_short=is_plain and max(lengths, default=0) <= SHORT_TEXT,
        tables=(
            ("Layers", _layer_table(memory)),
            ("How it was built", _build_table(memory)),
            ("Which model it is for", _model_table(memory)),
        ),
    )


def _facts(memory: "TaskMemory") -> list[tuple[str, str]]:
    megabytes = 1e-6
    full = max(memory.full_bytes, 1)
    core = "core" if memory.core_bytes <= full else "core with its own tables"
    return [
        ("demonstrations", f"{len(memory.demonstrations):,}"),
        ("tokens of the full context", f"{memory.logical_length:,}"),
        ("core", f"{memory.core_bytes * megabytes:,.2f} MB"),
        (f"{core}, of the full context", f"{100 * memory.core_bytes / full:.1f} %"),
        ("bank", f"{memory.bank_bytes * megabytes:,.2f} MB"),
        ("full context", f"{memory.full_bytes * megabytes:,.2f} MB"),
    ]


def _bar(name: str, core: Shares, bank: Shares) -> Bar:
    """The mean shares of some tokens; a token both merged and banked counts as banked."""
    kept, banked = float(core.mean()), float(bank.mean())
    rest = max(0.0, 1 - kept - banked)
    label = _both(kept, banked) if banked else share(kept)
    return Bar(name, ((kept, "core"), (banked, "bank"), (rest, "rest")), label)


def _both(core: float, bank: float) -> str:
    return f"{100 * core:.0f}\xa0+\xa0{100 * bank:.0f}\xa0%"


def _by_role(memory: "TaskMemory", core: Shares, bank: Shares) -> BarChart:
    roles = memory.tokens.roles.cpu().numpy()
    bars = [
        _bar(role.name.lower(), core[:, roles == role], bank[:, roles == role])
        for role in Role
        if (roles == role).any()
    ]
    return BarChart.of("By what the tokens are", bars, largest=1.0)


def _by_layer(core: Shares, bank: Shares) -> BarChart:
    if not core.shape[1]:
        return BarChart.of("By layer", [], largest=1.0)
    bars = [_bar(f"layer {number}", core[number], bank[number]) for number in range(len(core))]
    return BarChart.of("By layer", bars, largest=1.0)


def _drawn_layers(memory: "TaskMemory") -> int:
    """How many layers a reader may choose from; 0 where only their mean is drawn."""
    layers = len(memory.core)
    return layers if layers * len(memory.tokens) <= MOST_SPRITE_ENTRIES else 0


def _cards(memory: "TaskMemory", core: Shares, bank: Shares) -> tuple[Card, ...]:
    entries = memory.demonstrations[:MOST_CARDS]
    if all(entry.question is None and not entry.pictures for entry in entries):
        return ()  # texts and pictures were left out
    if not _drawn_layers(memory):
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
        kind = "image/png" if content.startswith(b"\x89PNG") else "image/jpeg"
        width, height = size(content)
        found[name] = data_uri(content, kind), width / height
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
            found.append((name, _both(kept, banked) if bank.any() else share(kept)))
    return found


def _layer_table(memory: "TaskMemory") -> Table:
    banked = memory.bank_counts or (None,) * len(memory.core_counts)
    rows = [
        (number, memory.geometry.layer_kinds[number], _counts(core), _counts(bank))
        for number, (core, bank) in enumerate(zip(memory.core_counts, banked, strict=True))
    ]
    columns = ("layer", "attends", "core tokens a head", "bank tokens a head")
    return Table.of("Layers", columns, rows, columns[2:])


def _counts(heads: tuple[int, ...] | None) -> str:
    if heads is None:
        return "–"
    low, high = min(heads, default=0), max(heads, default=0)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _build_table(memory: "TaskMemory") -> Table:
    settings = memory.recipe.get("settings") or {}
    rows = [("recipe", memory.recipe.get("name", "?")), *_plain(settings)]
    rows += [("stored as", stored_as(memory)), ("retrieval opens", memory.gate.kind)]
    return Table.of("How it was built", ("setting", "value"), rows)


def _model_table(memory: "TaskMemory") -> Table:
    geometry = memory.geometry
    rows = [
        ("model", memory.model_name or "a model wrapped in Python"),
        ("layers", geometry.layers),
        ("KV heads", geometry.kv_heads),
        ("width of a head", geometry.head_dim),
        ("identity", memory.identity.digest),
    ]
    return Table.of("Which model it is for", ("what", "value"), rows)


def _plain(settings: Any) -> list[tuple[str, str]]:
    if not isinstance(settings, dict):
        return []
    return [
        (name.replace("_", " "), "–" if value is None else str(value))
        for name, value in settings.items()
    ]

"""`tasm show --html`: what a memory holds as one page: figures, bars, cards, folded tables.

It reads a memory and the thumbnails stored with it; it follows no recorded path and loads no model.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasm.backbone.prompt.roles import Role
from tasm.memory.showing import stored_as
from tasm.view.heat_maps import Shares, kept_shares
from tasm.view.html_page import render, share
from tasm.view.memory_cards import Card, both, cards_of, drawn_layers
from tasm.view.tables import Bar, BarChart, Table

if TYPE_CHECKING:
    from tasm.memory import TaskMemory

OPEN_CARDS = 12
SHORT_TEXT = 90  # characters; cards of shorter texts stand two in a row on a phone


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
    most_open: int = OPEN_CARDS  # cards that are seen at once; a reader unfolds the others


def memory_page(memory: "TaskMemory", name: str) -> str:
    """Return the page of a memory; `name` is what it is called.

    ```python
    Path("birds.html").write_text(memory_page(tasm.load("birds.tasm"), "birds.tasm"))
    ```

    Raises `DamageError` where a file of the memory is damaged.
    """
    return render(
        "memory.html",
        title=f"{name} · task memory",
        name=name,
        model=memory.model_name or "a wrapped model",
        recipe=str(memory.recipe.get("name", "?")),
        memory=view_of(memory),
    )


def view_of(memory: "TaskMemory") -> MemoryView:
    """Return what is shown of a memory.

    ```python
    view_of(tasm.load("birds.tasm")).cards[0].messages[-1].text.pieces
    ```

    Raises `DamageError` where a file of the memory is damaged.
    """
    core, bank = kept_shares(memory)
    cards = cards_of(memory, core, bank)
    texts = [message.text for card in cards for message in card.messages]
    lengths = [sum(len(piece.text) for piece in (*text.pieces, *text.folded)) for text in texts]
    is_plain = all(
        len(card.messages) == 2 and sum(len(one.pictures) for one in card.messages) == 1
        for card in cards
    )
    return MemoryView(
        facts=_facts(memory),
        charts=(_by_role(memory, core, bank), _by_layer(core, bank)),
        has_bank=memory.bank is not None,
        layers=drawn_layers(memory),
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


def _facts(memory: "TaskMemory") -> tuple[tuple[str, str], ...]:
    full = max(memory.full_bytes, 1)
    core = "core" if memory.core_bytes <= full else "core with its own tables"
    return (
        ("demonstrations", f"{len(memory.demonstrations):,}"),
        ("tokens of the full context", f"{memory.logical_length:,}"),
        ("core", f"{memory.core_bytes / 1e6:,.2f} MB"),
        (f"{core}, of the full context", f"{100 * memory.core_bytes / full:.1f} %"),
        ("bank", f"{memory.bank_bytes / 1e6:,.2f} MB"),
        ("full context", f"{memory.full_bytes / 1e6:,.2f} MB"),
    )


def _bar(name: str, core: Shares, bank: Shares) -> Bar:
    """The mean shares of some tokens; a token both merged and banked counts as banked."""
    kept, banked = float(core.mean()), float(bank.mean())
    rest = max(0.0, 1 - kept - banked)
    label = both(kept, banked) if banked else share(kept)
    return Bar(name, ((kept, "core"), (banked, "bank"), (rest, "rest")), label)


def _by_role(memory: "TaskMemory", core: Shares, bank: Shares) -> BarChart:
    roles = memory.tokens.roles.cpu().numpy()
    bars = [
        _bar(role.name.lower(), core[:, roles == role], bank[:, roles == role])
        for role in Role
        if (roles == role).any()
    ]
    return BarChart.of("By what the tokens are", bars, largest=1.0)


def _by_layer(core: Shares, bank: Shares) -> BarChart:
    layers = enumerate(zip(core, bank, strict=True)) if core.size else ()
    bars = [_bar(f"layer {number}", *shares) for number, shares in layers]
    return BarChart.of("By layer", bars, largest=1.0)


def _layer_table(memory: "TaskMemory") -> Table:
    banked = memory.bank_counts or (None,) * len(memory.core_counts)
    rows = [
        (number, memory.geometry.layer_kinds[number], counts_text(core), counts_text(bank))
        for number, (core, bank) in enumerate(zip(memory.core_counts, banked, strict=True))
    ]
    columns = ("layer", "attends", "core tokens a head", "bank tokens a head")
    return Table.of("Layers", columns, rows, columns[2:])


def counts_text(heads: tuple[int, ...] | None) -> str:
    """Return the tokens of a layer's heads for people, the fewest and the most."""
    if heads is None:
        return "–"
    low, high = min(heads, default=0), max(heads, default=0)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def _build_table(memory: "TaskMemory") -> Table:
    settings = memory.recipe.get("settings") or {}
    rows = [
        ("recipe", memory.recipe.get("name", "?")),
        *(
            (name.replace("_", " "), "–" if value is None else str(value))
            for name, value in settings.items()
        ),
        ("stored as", stored_as(memory)),
        ("retrieval opens", memory.gate.kind),
    ]
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

"""A memory's page: all turns, names, coloured texts, heat maps that are off until asked for."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

import tasm
from tasm.memory import TaskMemory
from tasm.view import memory_cards
from tasm.view.heat_maps import kept_shares
from tasm.view.memory_page import OPEN_CARDS, memory_page, view_of
from tests.view.conftest import KINDS, NASTY
from tests.view.html_reader import Node, check_page

MemoryOf = Callable[[str], TaskMemory]


def page_of(memory: TaskMemory, name: str = "birds.tasm") -> Node:
    return check_page(memory_page(memory, name))


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_makes_a_whole_page_without_hashes(memory_of: MemoryOf, kind: str) -> None:
    memory = memory_of(kind)
    root = page_of(memory)
    cards = root.all("article", "demo")
    assert len(cards) == len(memory.demonstrations)
    for card in cards:
        assert not re.search(r"[0-9a-f]{12}", card.text)
    seen = [node for node in root.below() if not any(a.tag == "details" for a in node.above())]
    assert memory.identity.digest not in "".join(
        child for node in seen for child in node.children if isinstance(child, str)
    )
    assert memory.identity.digest in root.text


def test_names_are_the_users_or_the_files(memory_of: MemoryOf) -> None:
    def titles(kind: str) -> list[str]:
        return [card.all("h3")[0].text for card in page_of(memory_of(kind)).all("article", "demo")]

    assert titles("text") == ["1 · sum 0", "2 · sum 1", "3 · sum 2", "4 · sum 3"]
    assert titles("plain")[:2] == ["1 · bird 0.png", "2 · bird 1.png"]


def test_all_turns_are_shown_with_their_pictures(memory_of: MemoryOf) -> None:
    for number, card in enumerate(page_of(memory_of("turns")).all("article", "demo")):
        texts = [text.text for text in card.all("div", "text")]
        assert texts == [
            "What is in the first one?",
            "a disc",
            "Which colour has it?",
            f"red number {number}",
            "And herepicture 2too?",
            f"last {number}",
        ]
        pictures = [len(message.all("img")) for message in card.all("div", "message")]
        assert pictures == [1, 0, 0, 0, 1, 0]


def test_texts_are_cut_into_their_tokens_with_the_heads_that_keep_them(memory_of: MemoryOf) -> None:
    memory = memory_of("text")
    core, bank = kept_shares(memory)
    roles, owner = memory.tokens.roles.numpy(), memory.tokens.demonstration.numpy()
    for number, card in enumerate(page_of(memory).all("article", "demo")):
        pieces = card.all("i")
        own = (owner == number) & ((roles == 2) | (roles == 4))
        assert 4 < len(pieces) <= own.sum()
        assert "".join(piece.text for piece in pieces) == f"What is {number} + {number}?" + str(
            2 * number
        )
        mean = [float(shares[:, own].mean()) for shares in (core, bank)]
        form = re.compile(r"core (?:<\xa0)?(\d+)\xa0%, bank (?:<\xa0)?(\d+)\xa0%")
        titles = [form.fullmatch(piece.attributes["title"]) for piece in pieces]
        assert all(titles)
        for part, expected in enumerate(mean, start=1):
            shown = [int(found[part]) for found in titles if found]
            assert min(shown) - 1 <= 100 * expected <= max(shown) + 1
    whole = page_of(memory).all("div", "text")[0].attributes["style"]
    assert whole.count("data:image/png") == 2


def test_heat_maps_are_off_until_asked_for_and_have_a_scale(memory_of: MemoryOf) -> None:
    root = page_of(memory_of("plain"))
    boxes = {node.attributes["id"]: node for node in root.all("input")}
    assert {"show-core", "show-bank"} < set(boxes)
    assert not any("checked" in box.attributes for box in boxes.values())
    style = root.all("style")[0].text
    assert re.search(r"\.heat \{ display:none", style)
    assert "#kept:has(#show-core:checked) .heat.core" in style
    for line in style.splitlines():  # greyed, and coloured, only while a box is checked
        if "grayscale" in line or "background-image:var(" in line:
            assert ":checked" in line
    (scale,) = root.all("div", "scale")
    assert "0 %" in scale.text and "100 %" in scale.text
    assert len(root.all("span", "heat")) == 30


def test_colour_is_not_alone(memory_of: MemoryOf) -> None:
    root = page_of(memory_of("plain"))
    for card in root.all("article", "demo"):
        assert [name.text for name in card.all("dt")] == ["picture", "question", "answer"]
        assert all(re.fullmatch(r"\d+\xa0\+\xa0\d+\xa0%", kept.text) for kept in card.all("dd"))
    style = root.all("style")[0].text
    (striped,) = [line for line in style.splitlines() if line.startswith(".is-bank")]
    assert "repeating-linear-gradient" in striped


def test_a_users_text_stays_text(memory_of: MemoryOf) -> None:
    html = memory_page(memory_of("nasty"), NASTY)
    root = check_page(html)
    assert len(root.all("script")) == 1 and "alert" not in root.all("script")[0].text
    card = root.all("article", "demo")[0]
    assert NASTY in card.all("h3")[0].text
    assert card.all("div", "text")[0].text == f"{NASTY} 0"
    assert card.all("div", "text")[1].text == NASTY
    assert root.all("h1")[0].text == NASTY


def test_long_texts_and_later_demonstrations_are_folded(memory_of: MemoryOf) -> None:
    root = page_of(memory_of("long"))
    for text in root.all("div", "text")[::2]:
        (folded,) = text.all("details")
        assert "open" not in folded.attributes
        assert folded.text.endswith("END")
        assert len(text.text) - len(folded.text) < 500
    cards = page_of(memory_of("plain")).all("article", "demo")
    folded = [any(node.tag == "details" for node in card.above()) for card in cards]
    assert folded == [False] * OPEN_CARDS + [True] * 3
    details = page_of(memory_of("plain")).all("details", "fold")
    assert [node.all("summary")[0].text for node in details] == [
        "Demonstrations 13 to 15", "Layers", "How it was built", "Which model it is for",
    ]  # fmt: skip
    assert not any("open" in node.attributes for node in details)


def test_a_memory_without_texts_and_pictures_says_so(memory_of: MemoryOf) -> None:
    memory = memory_of("plain")
    bare = memory.replaced(
        demonstrations=[
            replace(entry, pictures=(), question=None, answer=None, earlier=(), text_ends=())
            for entry in memory.demonstrations
        ]
    )
    root = page_of(bare)
    assert not root.all("article") and not root.all("input")
    assert "Texts and pictures of the 15 demonstrations are not stored" in root.text
    none = page_of(memory.replaced(demonstrations=[]))
    assert "No demonstrations are recorded." in none.text


def test_a_memory_that_does_not_know_its_tokens_shows_texts_whole(memory_of: MemoryOf) -> None:
    memory = memory_of("text")
    old = memory.replaced(
        demonstrations=[replace(entry, text_ends=()) for entry in memory.demonstrations]
    )
    texts = page_of(old).all("div", "text")
    assert [text.text for text in texts[:2]] == ["What is 0 + 0?", "0"]
    assert [len(text.all("i")) for text in texts] == [1] * 8


def test_pictures_and_cards_are_bounded(
    memory_of: MemoryOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = memory_of("plain")

    def picture_bytes() -> int:
        addresses = [image.attributes["src"] for image in page_of(memory).all("img")]
        assert len(addresses) == 15
        return sum(len(address) * 3 // 4 for address in addresses)

    assert picture_bytes() > 60_000
    monkeypatch.setattr(memory_cards, "MOST_PICTURE_BYTES", 30_000)
    assert picture_bytes() < 45_000
    monkeypatch.setattr(memory_cards, "MOST_CARDS", 5)
    root = page_of(memory)
    assert len(root.all("article", "demo")) == 5
    assert "10 more are not drawn here" in root.text
    monkeypatch.setattr(memory_cards, "MOST_SPRITE_ENTRIES", 10)
    assert not any(node.attributes["id"] == "layer" for node in page_of(memory).all("input"))


def test_a_mean_is_what_one_layer_draws(memory_of: MemoryOf) -> None:
    """Bars say what the memory holds, counted anew from its layers."""
    memory = memory_of("plain")
    chart = view_of(memory).charts[1]
    for layer, bar in zip(memory.core, chart.bars, strict=True):
        assert layer is not None
        kept = np.mean([len(set(layer.index[head, :count].tolist())) for head, count in
                        enumerate(layer.counts)]) / len(memory.tokens)  # fmt: skip
        assert bar.parts[0] == (pytest.approx(kept, abs=1e-3), "core")


def test_turns_are_kept_on_disk_and_shown_by_public(memory_of: MemoryOf) -> None:
    memory = memory_of("turns")
    again = tasm.load(str(memory.place)).demonstrations[0]
    assert again.earlier[0] == "<image>What is in the first one?"
    assert len(again.earlier) == 4 and len(again.text_ends) == 6
    shown = memory.public()["demonstrations"][0]
    assert shown["earlier"] == list(again.earlier) and "text_ends" not in shown

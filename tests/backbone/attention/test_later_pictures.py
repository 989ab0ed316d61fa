"""A picture in a later turn of one conversation: what the stock model gives for the whole of it,
or a sentence that says what to pass."""

import threading
from typing import Any

import pytest
import torch
from torch import Tensor

from tasm.backbone import MemoryCache, attach
from tasm.errors import InputError
from tests.backbone.attention.exactness import encode, generate, stock, tiny_or_skip
from tests.tiny_models import IMAGE, IMAGE_FAMILIES, Tiny, Turn

pytestmark = pytest.mark.matrix
THREE_ROWS = ["qwen2_vl", "qwen2_5_vl", "qwen3_vl", "glm4v"]


def close(found: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)


def later(tiny: Tiny, turn: Turn) -> dict[str, Any]:
    """A turn's arguments without a mask."""
    return {name: value for name, value in tiny.inputs([turn]).items() if name != "attention_mask"}


@pytest.mark.parametrize("family", IMAGE_FAMILIES)
def test_a_second_forward(family: str) -> None:
    tiny = tiny_or_skip(family)
    turns = [tiny.turn(1), tiny.turn(2), tiny.turn(3, 9)]
    session = encode(tiny, [turns[:1]]).fork()
    with torch.no_grad():
        for turn in turns[1:]:
            found = tiny.model(**later(tiny, turn), past_key_values=session).logits[0, -1]
        step = torch.tensor([[5]])
        after = tiny.model(input_ids=step, past_key_values=session).logits[0, -1]
    positions = session.live_rows.positions(int(session.get_seq_length()))
    session.commit()
    assert torch.equal(session.positions[:, -positions.shape[2] :], positions[:, 0])
    expected = stock(tiny, turns, [5])
    close(torch.stack([found, after]), expected)


@pytest.mark.parametrize("family", IMAGE_FAMILIES)
def test_generate_goes_on_with_a_picture(family: str) -> None:
    tiny = tiny_or_skip(family)
    memory, first, second = encode(tiny, [[tiny.turn(1)]]), tiny.turn(2), tiny.turn(3, 9)
    cache = memory.fork()
    said = generate(tiny, cache, tiny.batch([first]))[0][0].tolist()
    # In between the model answers others, in batches of another size.
    generate(tiny, memory.fork(), tiny.batch([tiny.turn(4), tiny.turn(5), tiny.turn(6)]))
    whole = Turn([*first.ids, *said, *second.ids], second.images)
    given = tiny.batch([whole])
    tokens, logits = generate(tiny, cache, given)
    both = tiny._join([first.images, second.images])
    answer = tokens[0, :-1].tolist()
    expected = stock(tiny, [tiny.turn(1), Turn(whole.ids, both)], answer)
    close(logits[0], expected)


@pytest.mark.parametrize("family", [*THREE_ROWS, "llava"])
def test_what_does_not_fit_is_a_sentence(family: str) -> None:
    tiny = tiny_or_skip(family)
    memory, first, second = encode(tiny, [[tiny.turn(1)]]), tiny.turn(2), tiny.turn(3, 9)

    def session() -> MemoryCache:
        cache = memory.fork()
        said.append(generate(tiny, cache, tiny.batch([first]))[0][0].tolist())
        return cache

    said: list[list[int]] = []
    cache = session()
    ids = [*first.ids, *said[0], *second.ids]
    everything = Turn(ids, tiny._join([first.images, second.images]))
    with pytest.raises(InputError, match="exactly the pictures of the new tokens"):
        generate(tiny, cache, tiny.batch([everything]))
    cache = session()
    with pytest.raises(InputError, match="image tokens and no pixels"):
        generate(tiny, cache, tiny.batch([Turn(ids)]))
    cache = session()
    only_new = tiny.batch([second])
    width = int(cache.get_seq_length()) + len(second.ids)
    only_new["attention_mask"] = torch.ones(1, width, dtype=torch.long)
    with pytest.raises(InputError, match="ids of the whole conversation"):
        generate(tiny, cache, only_new)
    with pytest.raises(InputError, match="ends in a picture"):
        generate(tiny, cache, tiny.batch([Turn([*ids, IMAGE], second.images)]))
    with pytest.raises(InputError, match="image tokens and no pixels"), torch.no_grad():
        tiny.model(input_ids=torch.tensor([second.ids]), past_key_values=memory.fork())


@pytest.mark.parametrize("family", ["qwen2_vl", "glm4v", "llava"])
def test_a_padded_batch_goes_on_with_pictures(family: str) -> None:
    tiny = tiny_or_skip(family)
    demonstration, firsts = tiny.turn(1), [tiny.turn(2), tiny.turn(3, 11)]
    seconds = [tiny.turn(4, 9), tiny.turn(5, 9)]
    session = encode(tiny, [[demonstration]]).fork()
    queries = tiny.batch(firsts)
    with torch.no_grad():
        tiny.model(**queries, past_key_values=session)
        more = tiny.batch(seconds)
        more["attention_mask"] = torch.cat([queries["attention_mask"], more["attention_mask"]], 1)
        found = tiny.model(**more, past_key_values=session).logits[:, -1]
    for row in range(2):
        expected = stock(tiny, [demonstration, firsts[row], seconds[row]])
        close(found[row], expected[-1])


@pytest.mark.parametrize("family", THREE_ROWS)
def test_threads_with_batches_of_other_sizes(family: str) -> None:
    """What some versions keep on the model is another thread's by the time it is read."""
    tiny = tiny_or_skip(family)
    memory = encode(tiny, [[tiny.turn(1)]])
    attach(tiny.model)
    work = [tiny.batch([tiny.turn(n + k, 5 + n) for k in range(n % 3 + 1)]) for n in range(2, 8)]
    expected = [generate(tiny, memory.fork(), one)[0].tolist() for one in work]
    found: list[Any] = [None] * len(work)

    def run(place: int) -> None:
        for _ in range(2):
            found[place] = generate(tiny, memory.fork(), work[place])[0].tolist()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(work))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == expected


@pytest.mark.parametrize("given", ["ids", "embeddings"])
@pytest.mark.parametrize("rows", [3, 4])
def test_later_positions_of_a_picture_over_text_are_refused(given: str, rows: int) -> None:
    """A first call's are taken as they are; later ones would be taken for text without a word."""
    tiny = tiny_or_skip("qwen2_vl")
    memory, ids = encode(tiny, [[tiny.turn(1)]]), torch.tensor([[10, 11, 12, 13]])
    inputs = {"input_ids": ids}
    if given == "embeddings":
        inputs = {"inputs_embeds": tiny.model.get_input_embeddings()(ids)}
    text = torch.arange(4)[None, None].expand(rows, 1, -1)
    placed = text.clone()
    placed[-1, 0, 2] = 7
    cache = memory.fork()
    with torch.no_grad():
        tiny.model(**inputs, position_ids=placed, past_key_values=cache)
        assert cache.live_rows.positions(4)[-1, 0].diff().tolist() == [1, 6, -4]
        with pytest.raises(InputError, match="as those of a picture"):
            tiny.model(**inputs, position_ids=placed, past_key_values=cache)
        found = tiny.model(**inputs, position_ids=text, past_key_values=cache).logits
        again = memory.fork()
        tiny.model(**inputs, position_ids=placed, past_key_values=again)
        expected = tiny.model(**inputs, past_key_values=again).logits
    close(found, expected)

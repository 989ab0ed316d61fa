"""Training's token layout is that of the tokenizer, the chat template and the image processor."""

import numpy as np
import pytest
import torch
from transformers import AutoImageProcessor, AutoTokenizer

from tasm.suites import pictures
from tasm.suites.episodes import Episode
from tasm.suites.suites import PICTURED, episode
from training import layout, net
from training import tokenizer as tokens
from training.bank import patches
from training.evaluate import MODEL
from training.tokenizer import single_tokens


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(MODEL)


def messages(turn, answer=True):
    parts = [
        {"type": "text", "text": p} if isinstance(p, str) else {"type": "image"} for p in turn.parts
    ]
    said = [{"role": "assistant", "content": [{"type": "text", "text": turn.answer}]}]
    return [{"role": "user", "content": parts}, *(said if answer else [])]


def ids(tokenizer, chat, ask=False):
    text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=ask)
    return tokenizer(text.replace("<|image_pad|>", "<|image_pad|>" * net.TOKENS))["input_ids"]


@pytest.mark.parametrize("name", sorted(PICTURED))
def test_training_sees_what_the_chat_template_gives(name, tokenizer):
    made = episode(name, demonstrations=5, queries=1)
    chat = [m for turn in made.demonstrations for m in messages(turn)]
    batch = layout.batch([made])
    whole = ids(tokenizer, chat + messages(made.queries[0]))
    assert batch.ids[0, : len(whole)].tolist() == whole
    apart = [i for t in made.demonstrations for i in ids(tokenizer, messages(t))]
    last = ids(tokenizer, messages(made.queries[0], answer=False), ask=True)
    assert apart + last == whole[: len(apart) + len(last)]


@pytest.mark.parametrize("name", sorted(PICTURED))
def test_most_of_a_demonstration_is_visual(name):
    made = episode(name, demonstrations=5, queries=1)
    row = layout.batch([Episode(made.demonstrations, [])]).ids[0]
    row = row[row != layout.table()["<|pad|>"]]
    assert (row == layout.table()["<|image_pad|>"]).float().mean() >= 0.70


def test_suite_words_are_single_tokens_and_any_text_survives(tokenizer):
    for word in single_tokens():
        assert len(tokenizer(word)["input_ids"]) == 1, word
    for text in ("zanu", "Hello, world!", "naïve 東京", "what is it?"):
        found = tokenizer(text)["input_ids"]
        assert tokenizer.decode(found) == text
    assert tokens.text_ids("what zanu", layout.table()) == tokenizer("what zanu")["input_ids"]


def test_patches_are_those_of_the_image_processor():
    drawn = pictures.draw(episode("bind").queries[0].pictures()[0])
    processor = AutoImageProcessor.from_pretrained(MODEL, use_fast=False)
    given = processor(images=[drawn], return_tensors="pt")
    image = torch.from_numpy(np.asarray(drawn).copy()).permute(2, 0, 1)[None].float() / 255
    assert given["image_grid_thw"].tolist() == [[1, 8, 8]]
    assert torch.allclose(patches(image)[0], given["pixel_values"], atol=1e-5)

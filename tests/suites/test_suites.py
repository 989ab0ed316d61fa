"""Suites: the same files for a seed, nothing held out in training, plain mistakes refused."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tasm.suites import fonts, pictures, words
from tasm.suites.suites import SUITES, episode, write_suite
from training.tokenizer import single_tokens

SMALL = {"demonstrations": 6, "queries": 4}


@pytest.mark.parametrize("name", sorted(SUITES))
def test_a_seed_gives_the_same_files(name, tmp_path):
    for folder in ("a", "b"):
        made = write_suite(name, tmp_path / folder, seed=3, **SMALL)
    write_suite(name, tmp_path / "c", seed=4, **SMALL)
    found = {
        folder: {
            p.relative_to(tmp_path / folder): p.read_bytes()
            for p in (tmp_path / folder).rglob("*.*")
        }
        for folder in "abc"
    }
    assert found["a"] == found["b"]
    assert found["a"] != found["c"]
    assert made["files"] == len(found["a"])
    rows = [json.loads(line) for line in (tmp_path / "a/demonstrations.jsonl").open()]
    assert len(rows) == SMALL["demonstrations"]
    for row in rows:
        pictures_each = int(SUITES[name].kind == "picture")
        assert row["question"].count("<image>") == len(row["images"]) == pictures_each
        assert row["answer"]
        if not pictures_each:
            continue
        with Image.open(tmp_path / "a" / row["images"][0]) as image:
            assert image.size == (pictures.SIDE, pictures.SIDE)


def test_one_set_of_demonstrations_serves_all_queries():
    made = episode("bind", seed=1, queries=16)
    labels = {t.answer for t in made.demonstrations}
    assert len(labels) == 8
    assert {t.answer for t in made.queries} == labels


def test_what_is_held_out_is_not_in_training():
    assert not set(fonts.glyphs("train")) & set(fonts.glyphs("held-out"))
    assert not set(fonts.TRAIN_FONTS) & set(fonts.HELD_OUT_FONTS)
    for name in ("bind", "needle", "late"):
        for split, held in (("train", False), ("held-out", True)):
            made = episode(name, seed=2, split=split, **SMALL)
            tags = {
                w
                for t in made.demonstrations
                for w in (t.question().split()[0], t.answer)
                if len(w) == 4 and w[:2] in words.SYLLABLES and w not in single_tokens()
            }
            assert all(words.held_out(tag) == held for tag in tags), (name, split)
    for seed in range(8):
        items = [
            item
            for turn in episode("rule", seed=seed, split="train", **SMALL).demonstrations
            for item in turn.pictures()[0].items
        ]
        assert not {i.name for i in items} & set(pictures.HELD_OUT_SHAPES)


def test_another_font_draws_the_same_task_otherwise():
    plain = pictures.draw(episode("bind", **SMALL).demonstrations[0].pictures()[0])
    other = episode("bind", font=fonts.font_path("STIXGeneral"), **SMALL)
    assert np.any(np.asarray(plain) != np.asarray(pictures.draw(other.queries[0].pictures()[0])))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "bnd"}, "no suite 'bnd'; there are bind"),
        ({"name": "bind", "split": "test"}, "split is one of held-out, train, not 'test'"),
        ({"name": "bind", "ways": 1}, "ways of bind: 2 to 40, not 1"),
        ({"name": "needle", "ways": 3}, "the suite needle takes no number of ways"),
        ({"name": "bind", "font": "notes.txt"}, "notes.txt is neither a .ttf"),
        ({"name": "bind", "queries": 0}, "demonstrations and queries are at least 1"),
    ],
)
def test_mistakes_are_named(given, message):
    with pytest.raises(ValueError, match=message):
        episode(**given)


def test_suites_need_no_torch():
    code = "import sys, tasm.suites.suites; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize("seed", range(5))
def test_counts_of_one_picture_differ_and_one_colour_is_always_meant(seed):
    made = episode("count", seed=seed, queries=20)
    meant = set()
    for turn in made.demonstrations + made.queries:
        (picture,) = turn.pictures()
        shown = {kind: turn.marks.count(kind) for kind in (1, 2)}
        assert sum(shown.values()) == len(picture.items)
        assert shown[1] != shown[2]
        meant.add(next(kind for kind in shown if words.NUMBERS[shown[kind]] == turn.answer))
    assert len(meant) == 1


def test_harder_glyphs_look_like_no_training_glyph():
    found = fonts.glyphs("held-out", None, 0.85)
    assert 0 < len(found) < len(fonts.glyphs("held-out")) / 4

    def small(char):
        mask = fonts.plain_mask(char, fonts.BASE_FONT)
        return np.asarray(mask.resize((12, 12), Image.Resampling.BILINEAR), np.float64).ravel()

    known = np.stack([small(char) for char in fonts.glyphs("train")])
    known /= np.linalg.norm(known, axis=1, keepdims=True)
    for char in found:
        assert (known @ small(char)).max() / np.linalg.norm(small(char)) < 0.8501
    made = episode("bind", seed=1, cosine=0.85, **SMALL)
    shown = {item.name for t in made.demonstrations for item in t.pictures()[0].items}
    assert shown <= set(found)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name": "bind", "cosine": 0.5}, "0 held-out glyphs have no training glyph at a cosine"),
        ({"name": "bind", "cosine": 0.85, "ways": 40}, "the suite bind needs 40"),
        ({"name": "bind", "cosine": 2.0}, "The cosine is 2; expected"),
        ({"name": "bind", "cosine": float("nan")}, "The cosine is nan; expected"),
        ({"name": "rule", "cosine": 0.85}, "rule of the split held-out draws none"),
        ({"name": "bind", "split": "train", "cosine": 0.85}, "of the split train draws none"),
    ],
)
def test_a_cosine_that_cannot_be_met_is_named(given, message):
    with pytest.raises(ValueError, match=message):
        episode(**given)

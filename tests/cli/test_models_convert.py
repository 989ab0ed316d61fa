"""`tasm models convert`: what is in a GGUF file comes out as a model folder, or a sentence."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from tests.backbone.checkpoint.gguf_files import WIDTH, write_gguf
from tests.cli.conftest import Run, write_rows

needs_gguf = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("gguf", "accelerate")),
    reason="the extra gguf is not installed",
)


@needs_gguf
@pytest.mark.parametrize("quantised", [False, True], ids=["float32", "Q8_0"])
def test_a_gguf_file_becomes_a_model_folder(quantised: bool, run: Run, tmp_path: Path) -> None:
    tensors = write_gguf(tmp_path / "tiny.gguf", quantised=quantised)
    out = tmp_path / "model"
    ran = run("models", "convert", tmp_path / "tiny.gguf", "--out", out, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["model_type"] == "llama"
    assert ran.json["parameters"] == sum(values.size for values in tensors.values())
    from safetensors.numpy import load_file

    saved = load_file(out / "model.safetensors")
    close = {"rtol": 0, "atol": 0.01 if quantised else 0}
    for gguf_name, name in {
        "token_embd.weight": "model.embed_tokens.weight",
        "output.weight": "lm_head.weight",
        "blk.1.ffn_down.weight": "model.layers.1.mlp.down_proj.weight",
        "blk.0.attn_v.weight": "model.layers.0.self_attn.v_proj.weight",
        "blk.0.attn_norm.weight": "model.layers.0.input_layernorm.weight",
    }.items():
        np.testing.assert_allclose(saved[name], tensors[gguf_name], **close)
    # Files of this architecture hold queries and keys with a head's halves interleaved.
    query = tensors["blk.0.attn_q.weight"].reshape(4, 4, 2, WIDTH).swapaxes(1, 2)
    np.testing.assert_allclose(
        saved["model.layers.0.self_attn.q_proj.weight"], query.reshape(WIDTH, WIDTH), **close
    )


@needs_gguf
def test_what_was_converted_is_built_on_and_asked(run: Run, tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    rows = [{"images": [], "question": f"one {n}", "answer": f"two {n}"} for n in range(6)]
    demonstrations = write_rows(tmp_path / "rows.jsonl", rows)
    for more, begins in (((), "<|im_start|>"), (("--plain",), "<|endoftext|>{% for")):
        out = tmp_path / f"model{len(more)}"
        for again in ((), ("--overwrite",)):  # a folder with one such file is that file
            ran = run("models", "convert", tmp_path, "--out", out, *more, *again)
            assert ran.code == 0, ran.err
        template = (out / "chat_template.jinja").read_text()
        assert begins in template
        memory = tmp_path / f"memory{len(more)}.tasm"
        built = run("build", demonstrations, "--model", out, "--out", memory, "--recipe", "full")
        assert built.code == 0, built.err
        asked = run("ask", memory, "--question", "one 9", "--max-new-tokens", "4", "--json")
        assert asked.code == 0, asked.err


@needs_gguf
def test_the_tokenizer_and_the_ends_are_the_files_own(run: Run, tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    from transformers import AutoTokenizer, GenerationConfig

    from tests.backbone.checkpoint.gguf_files import SPECIAL
    from tests.tiny_folders import byte_level_tokenizer

    expected = byte_level_tokenizer(SPECIAL)
    for more in ((), ("--plain",)):
        out = tmp_path / f"model{len(more)}"
        assert run("models", "convert", tmp_path / "tiny.gguf", "--out", out, *more).code == 0
        tokenizer = AutoTokenizer.from_pretrained(out)
        text = "What is in this picture? größer\n7"
        assert tokenizer.encode(text, add_special_tokens=False) == expected.encode(text).ids
        ends = GenerationConfig.from_pretrained(out).eos_token_id
        newline = tokenizer.encode("\n", add_special_tokens=False)[-1]
        end = expected.token_to_id("<|im_end|>")
        assert ends == ([end, newline] if more else end)


@needs_gguf
def test_the_weights_are_written_in_the_type_that_is_asked_for(run: Run, tmp_path: Path) -> None:
    write_gguf(tmp_path / "tiny.gguf")
    out = tmp_path / "model"
    run("models", "convert", tmp_path / "tiny.gguf", "--out", out, "--dtype", "bfloat16")
    from safetensors import safe_open

    with safe_open(out / "model.safetensors", "pt") as weights:
        kinds = {str(weights.get_tensor(name).dtype) for name in weights.keys()}  # noqa: SIM118
    assert kinds == {"torch.bfloat16"}


@needs_gguf
@pytest.mark.parametrize(
    ("made", "said"),
    [
        ({"template": None}, "has no chat template, as base models have none. --plain"),
        ({"architecture": "clip"}, "of another architecture than a text model's"),
        (
            {"without": "blk.1.ffn_up.weight"},
            "not hold the whole model: 1 tensors are missing",
        ),
        ({"cut": 0.5}, "may be damaged"),
        ({"cut": 0.98}, "may be damaged"),
        ({"cut": 0.001}, "may be damaged"),
    ],
)
def test_files_that_cannot_be_converted(
    made: dict[str, object], said: str, run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "tiny.gguf"
    cut = made.pop("cut", None)
    write_gguf(file, **made)  # type: ignore[arg-type]
    if isinstance(cut, float):
        whole = file.read_bytes()
        file.write_bytes(whole[: int(len(whole) * cut)])
    ran = run("models", "convert", file, "--out", tmp_path / "model")
    assert ran.code == 2
    assert said in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.gguf"]


def test_places_that_hold_no_gguf_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "two").mkdir()
    for name in "ab":
        (tmp_path / "two" / f"{name}.gguf").write_bytes(b"GGUF")
    (tmp_path / "text.gguf").write_text("not one")
    for place, said in (
        ("gone.gguf", "There is no file"),
        ("empty", "holds no .gguf file"),
        ("two", "holds 2 .gguf files (a.gguf, b.gguf). Name the one"),
        ("text.gguf", "is no GGUF file: it begins with b'not '"),
    ):
        ran = run("models", "convert", tmp_path / place, "--out", tmp_path / "model")
        assert (ran.code, said in ran.err) == (2, True), ran.err
    assert not (tmp_path / "model").exists()


def test_outputs_that_are_not_written(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "m.gguf"
    file.write_bytes(b"GGUF")
    other = tmp_path / "other"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    for arguments, said in (
        (("--out", other), "exists already"),
        (("--out", other, "--overwrite"), "has no config.json"),
        (("--out", file, "--overwrite"), "is what is read here"),
        (("--out", tmp_path / "new", "--dtype", "float8"), "Unknown dtype 'float8'"),
    ):
        ran = run("models", "convert", file, *arguments)
        assert (ran.code, said in ran.err) == (2, True), ran.err
    assert (other / "notes.txt").read_text() == "mine"


def test_missing_packages_are_named(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasm.backbone.checkpoint import gguf

    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    monkeypatch.setattr(gguf, "find_spec", lambda name: None)
    ran = run("models", "convert", tmp_path / "m.gguf", "--out", tmp_path / "model")
    assert ran.code == 2
    assert "read with gguf and accelerate, not installed here: pip install 'tasm[gguf]'" in ran.err


def test_json_of_the_list_is_no_option_of_convert(run: Run) -> None:
    assert run("models", "--json", "convert", "m.gguf", "--out", "m").code == 2
    assert run("models", "nothing").code == 2

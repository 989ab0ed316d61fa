"""`tasm models convert`: a GGUF file becomes a model folder. Imports no torch before it runs."""

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from tasm.cli.files import check_out
from tasm.cli.frame import Result, command
from tasm.cli.options import Overwrite
from tasm.files import check_replaceable, check_writable, whole_folder

FILES = (
    "config.json",
    (
        "config.json",
        "generation_config.json",
        "chat_template.jinja",
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "added_tokens.json",
        "vocab.json",
        "merges.txt",
        "tokenizer.model",
        "model.safetensors",
        "model.safetensors.index.json",
    ),
)
"""What tells a model's folder, and what a converted one can hold beside numbered weights."""


@command
def convert(
    place: Annotated[
        Path, Argument(metavar="FILE_OR_FOLDER", help="A .gguf file, or a folder with one.")
    ],
    out: Annotated[Path, Option(metavar="FOLDER", help="The model folder to write.")],
    dtype: Annotated[
        str, Option(help="Of the written weights: float32, float16 or bfloat16.")
    ] = "float32",
    plain: Annotated[
        bool,
        Option(
            "--plain",
            help="In place of the file's chat template, lines 'question -> answer': small "
            "language models learn more from them.",
        ),
    ] = False,
    overwrite: Overwrite = False,
) -> Result:
    """Turn a GGUF file into a folder that --model takes: safetensors, tokenizer, chat template.

    The values stay those of the file: what was rounded there stays rounded. Text models only.

    \b
    Example:
      tasm models convert SmolLM2-135M-Instruct.Q8_0.gguf --out smollm2
      tasm build train.jsonl --model smollm2 --out memory.tasm
    """
    check_out(out, overwrite, inputs=[place])
    numbered = [path.name for path in out.glob("model-*-of-*.safetensors")] if out.is_dir() else []
    made = (*FILES[1], *numbered)
    check_replaceable(out, FILES[0], made)

    from tasm.backbone.checkpoint.gguf import check_packages, convert_gguf, find_gguf
    from tasm.backbone.dtypes import dtype_named

    dtype_named(dtype)
    file = find_gguf(place)
    check_packages()
    with whole_folder(out, FILES[0], made) as folder:
        written = convert_gguf(
            file,
            folder,
            dtype=dtype,
            template="plain" if plain else "own",
            before_writing=lambda needed: check_writable(out, needed),
        )
    document = {
        "model": str(out),
        "file": str(file),
        "model_type": written["model_type"],
        "parameters": written["parameters"],
        "dtype": dtype,
        "bytes": written["bytes"],
        "template": "plain" if plain else "own",
    }
    million = written["parameters"] / 1e6
    return Result(
        document, f"{out}: {written['model_type']}, {million:,.1f} million parameters in {dtype}."
    )

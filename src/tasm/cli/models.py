"""`tasm models`: the families of models that are known. Imports no torch."""

from typing import Any

import typer

from tasm.cli.frame import Json, Result, command
from tasm.cli.models_convert import convert
from tasm.cli.parsing import Command

models = typer.Typer(
    name="models", no_args_is_help=False, rich_markup_mode=None, invoke_without_command=True
)
models.command("convert", cls=Command)(convert)


@models.callback()
def _models(context: typer.Context, json: Json = False) -> None:
    """List the model families that work, and the models that come with tasm.

    \b
    Example:
      tasm models
      tasm doctor --model Qwen/Qwen2.5-VL-7B-Instruct
      tasm models convert smollm2.gguf --out smollm2
    """
    if context.invoked_subcommand is None:
        _list(json=json)
    elif json:
        context.fail("--json belongs after the command: tasm models convert … --json.")


@command
def _list(json: bool = False) -> Result:
    from tasm.backbone.checkpoint.families import models as known_models

    found = known_models()
    return Result(found, lambda: _tables(found["bundled"], found["families"]))


def _tables(included: list[dict[str, Any]], families: list[dict[str, Any]]) -> Any:
    from tasm.cli.text import table

    cells = ("name", "title", "kind", "example")
    return [
        table(
            ("Name", "What it is"),
            ((row["name"], row["title"]) for row in included),
            title="Models that come with tasm",
        ),
        table(
            ("model_type", "Family", "Kind", "For example"),
            ((row[cell] for cell in cells) for row in families),
            title="Families",
        ),
        "Other families are tried; what is missing is then said.",
    ]

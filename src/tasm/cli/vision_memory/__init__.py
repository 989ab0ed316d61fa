"""`tasm vision-memory`: training and judging adapters of the vision tower; imports no torch."""

import typer

from tasm.cli.parsing import Command
from tasm.cli.vision_memory.evaluate import evaluate
from tasm.cli.vision_memory.train import train

vision_memory = typer.Typer(
    name="vision-memory",
    help="Mema: a trained memory across the layers of the vision tower.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
for _function in (train, evaluate):
    vision_memory.command(cls=Command)(_function)

__all__ = ["vision_memory"]

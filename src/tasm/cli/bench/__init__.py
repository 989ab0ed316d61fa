"""`tasm bench`: what is measured. One file a subcommand; imports no torch."""

import typer

from tasm.cli.bench.accuracy import accuracy
from tasm.cli.bench.paper import paper
from tasm.cli.bench.speed import speed
from tasm.cli.parsing import Command

bench = typer.Typer(
    name="bench",
    help="Leaderboards, speed and published tables, measured here.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
for _function in (accuracy, speed, paper):
    bench.command(cls=Command)(_function)

__all__ = ["bench"]

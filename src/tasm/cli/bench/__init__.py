"""`tasm bench`: what is measured. One file a subcommand; imports no torch."""

from tasm.cli.bench.accuracy import accuracy
from tasm.cli.bench.paper import paper
from tasm.cli.bench.speed import speed
from tasm.cli.parsing import group

bench = group(
    "bench", accuracy, speed, paper, help="Leaderboards, speed and published tables, measured here."
)

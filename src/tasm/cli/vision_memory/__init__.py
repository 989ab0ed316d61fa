"""`tasm vision-memory`: training and judging adapters of the vision tower; imports no torch."""

from tasm.cli.parsing import group
from tasm.cli.vision_memory.evaluate import evaluate
from tasm.cli.vision_memory.train import train

vision_memory = group(
    "vision-memory",
    train,
    evaluate,
    help="Mema: a trained memory across the layers of the vision tower.",
)

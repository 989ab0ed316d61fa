"""The demo: one task told from end to end with the bundled model, and the page about it."""

from tasm.demo.run import run_demo

__all__ = ["run_demo"]

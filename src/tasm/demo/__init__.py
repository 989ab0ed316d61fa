"""The demo: one task told from end to end with the bundled model, and the page about it."""

from tasm.demo.run import FILES, run_demo

__all__ = ["FILES", "run_demo"]

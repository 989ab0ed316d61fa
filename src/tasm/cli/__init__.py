"""The command `tasm`: one file a command.

Nothing here knows how a memory is built or read; every command reads its options, calls a lower
room and hands a `Result` to the frame, which prints it and turns errors into exit codes. Help and
the commands that only list things do not import torch, so heavy imports stand inside functions.
"""

from tasm.cli.app import main

__all__ = ["main"]

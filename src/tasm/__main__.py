"""`python -m tasm` is the command `tasm`."""

from tasm.cli import main

main()

"""`python -m tasm` is the command `tasm`."""

import sys

from tasm.cli import main

sys.exit(main())

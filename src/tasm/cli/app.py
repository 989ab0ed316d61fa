"""The `tasm` command: which commands there are. Knows nothing of what they do."""

import sys
from typing import Annotated

import typer
from typer import Option

import tasm
from tasm.cli.ask import ask
from tasm.cli.bench import bench
from tasm.cli.build import build
from tasm.cli.changing import add, merge, remove
from tasm.cli.chat import chat
from tasm.cli.demo import demo
from tasm.cli.doctor import doctor
from tasm.cli.frame import INTERRUPTED
from tasm.cli.models import models
from tasm.cli.pack import pack
from tasm.cli.parsing import group
from tasm.cli.process import Stopped, open_what_is_closed, stop_cleanly
from tasm.cli.push import push
from tasm.cli.rebuild import rebuild
from tasm.cli.recipes import recipes
from tasm.cli.show import show
from tasm.cli.suite import suite
from tasm.cli.tune import tune
from tasm.cli.verify import verify
from tasm.cli.vision_memory import vision_memory

app = group(
    "tasm",
    *(build, ask, chat, show, verify, tune, rebuild, add, remove, merge, pack, push),
    *(suite, demo, recipes, doctor),
    help="Task memories: many image+text demonstrations in, a small memory for a frozen "
    "vision-language model out.",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
for _group in (models, bench, vision_memory):
    app.add_typer(_group)


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"tasm {tasm.__version__}")
        raise typer.Exit


@app.callback()
def _tasm(
    version: Annotated[
        bool,
        Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; leaves the process with the command's exit code."""
    open_what_is_closed()
    stop_cleanly()
    try:
        app(prog_name="tasm")
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Stopped as stopped:  # before or after the command itself
        sys.exit(stopped.exit_code)

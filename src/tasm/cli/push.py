"""`tasm push`: a memory goes to the Hugging Face hub."""

from typing import Annotated

from typer import Argument, Option

from tasm.cli.frame import Result, command
from tasm.cli.opening import check_here, open_memory
from tasm.cli.options import LocalMemory


@command
def push(
    memory: LocalMemory,
    repository: Annotated[
        str, Argument(metavar="OWNER/NAME", help="The repository; made where it is not there.")
    ],
    private: Annotated[
        bool, Option("--private", help="Make the repository for you alone.")
    ] = False,
    message: Annotated[
        str | None, Option(metavar="TEXT", help="Of the commit. Default: Push a task memory.")
    ] = None,
    revision: Annotated[
        str | None, Option(metavar="BRANCH", help="A branch. Default: main.")
    ] = None,
) -> Result:
    """Push a memory to the Hugging Face hub, with a card; others open it by its name there.

    The demonstrations' texts and thumbnails go with it where the memory holds them. Paths of this
    machine do not. Log in first (`hf auth login`), or set HF_TOKEN.

    \b
    Examples:
      tasm push birds.tasm me/birds --private
      tasm ask me/birds --question "Which bird is this?" --image new.png
    """
    check_here(memory)
    opened = open_memory(memory)
    commit = opened.push_to_hub(
        repository, private=private or None, commit_message=message, revision=revision
    )
    document = {
        "memory": str(memory),
        "repository": repository,
        "revision": revision or "main",
        "commit": commit.oid,
        "url": commit.commit_url,
    }
    name = repository if revision is None else f"{repository}@{revision}"
    return Result(document, f"Pushed to {commit.commit_url}\nOpen it: tasm ask {name} …")

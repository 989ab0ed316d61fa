"""`tasm vision-memory train`: an adapter for a model's vision tower, from solved examples."""

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from tasm.cli.building import read_files
from tasm.cli.files import check_beside, check_no_input, check_out
from tasm.cli.frame import Result, command, warn
from tasm.cli.options import Device, Dtype, ModelName, Overwrite, count
from tasm.cli.progress import Progress
from tasm.cli.text import number_text, seconds_text

Kind = Literal["mema", "plain"]


@command
def train(
    data: Annotated[
        list[Path],
        Argument(
            metavar="DATA...",
            help="Demonstrations; a folder with demonstrations.jsonl and queries.jsonl; or a "
            "folder of such folders.",
        ),
    ],
    model: ModelName,
    out: Annotated[Path, Option(metavar="ADAPTER", help="The folder to write.")],
    steps: Annotated[int, count()] = 1000,
    batch: Annotated[int, count(help="Runs a step.")] = 16,
    at_once: Annotated[int, count(help="Runs a pass; gradients add up to --batch.")] = 4,
    shots: Annotated[int, Option(metavar="N", min=0, help="Rows that a run shows.")] = 8,
    asked: Annotated[int, count(help="Rows after them, whose answers are learned.")] = 4,
    rate: Annotated[
        float, Option(metavar="X", min=0.0, help="AdamW's largest learning rate.")
    ] = 1e-4,
    kind: Annotated[
        Kind, Option(help="mema, or plain: a control of its size without the memory.")
    ] = "mema",
    question_free: Annotated[
        bool,
        Option("--question-free", help="Leave the question out: features that can be used again."),
    ] = False,
    checkpoint_every: Annotated[int, count(help="Steps.")] = 100,
    resume: Annotated[
        bool, Option("--resume", help="Go on with a training that was interrupted.")
    ] = False,
    overwrite: Overwrite = False,
    dtype: Dtype = "auto",
    device: Device = "auto",
    seed: Annotated[int, Option(metavar="S", min=0, max=2**32 - 1)] = 0,
) -> Result:
    """Train a vision memory (Mema) for a model; the model itself stays as it is.

    \b
    Every step draws runs of rows from the tasks: some are shown, the answers of the others are
    learned. ADAPTER gets the adapter in PEFT's layout, and curves.csv.

    \b
    Examples:
      tasm vision-memory train birds.jsonl --model Qwen/Qwen2-VL-2B-Instruct --out birds-mema
      tasm vision-memory train suites/train --model reference --out mema --steps 600 --rate 1e-3
    """
    from tasm.answer import load_model
    from tasm.errors import InputError
    from tasm.vision_training.checkpoints import check_trainable
    from tasm.vision_training.tasks import read_tasks
    from tasm.vision_training.train import TrainingSettings
    from tasm.vision_training.train import train as train_adapter

    if resume and overwrite:
        raise InputError("--resume goes on and --overwrite begins anew. Leave one of them out.")
    check_out(out, overwrite=True, inputs=[*data, Path(model)])
    check_trainable(out, resume=resume, overwrite=overwrite)
    check_beside(out, model=model)
    tasks = read_tasks(data, warn)
    check_no_input(out, read_files(row for task in tasks for row in (*task.shown, *task.asked)))
    settings = TrainingSettings(
        steps=steps,
        batch=batch,
        at_once=at_once,
        shots=shots,
        asked=asked,
        rate=rate,
        kind=kind,
        question_free=question_free,
        seed=seed,
    )
    loaded = load_model(model, dtype=dtype, device=device)
    with Progress() as progress:
        trained = train_adapter(
            loaded.backbone,
            tasks,
            out,
            settings,
            resume=resume,
            checkpoint_every=checkpoint_every,
            progress=progress,
        )
    document = trained.to_json()
    return Result(
        document,
        f"{out}: {trained.parameters:,} parameters, {steps} steps in "
        f"{seconds_text(trained.seconds)}; loss {number_text(document['loss'], 3)}.",
    )

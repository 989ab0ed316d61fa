"""Work spread over processes, one thread each; results come back as they are made.

Knows nothing of what is measured: it hands a loaded model and a unit to a function that yields
results. Processes are spawned, so that none inherits another's threads or device state.
"""

import multiprocessing
import queue
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tasm.errors import WorkError

Measure = Callable[[Any, Any], Iterator[Any]]

_SECONDS_BETWEEN_CHECKS = 1.0
_SECONDS_TO_LEAVE = 5.0
_RESULT, _DONE, _FAILED = "result", "done", "failed"


def over_processes(
    workers: int, plan: Any, units: Sequence[Any], measure: Measure
) -> Iterator[Any]:
    """Yield what `measure(backbone, unit)` yields for every unit, from `workers` processes, in the
    order in which results come.

    `plan` names the model (`model`, `dtype`, `device`, `vision_memory`); `measure` must be a
    module's function.

    Raises:
        WorkError: if a process fails or is killed; what was yielded before remains valid.
    """
    context = multiprocessing.get_context("spawn")
    waiting: Any = context.Queue()
    results: Any = context.Queue()
    for unit in units:
        waiting.put(unit)
    for _ in range(workers):
        waiting.put(None)
    processes = [
        context.Process(target=_work, args=(plan, measure, waiting, results), daemon=True)
        for _ in range(workers)
    ]
    with _keyboard_left_to_the_parent():
        for process in processes:
            process.start()
    try:
        working = workers
        while working:
            kind, content = _next(results, processes)
            if kind == _RESULT:
                yield content
            elif kind == _DONE:
                working -= 1
            else:
                raise WorkError(f"A measuring process failed: {content}")
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.join(_SECONDS_TO_LEAVE)
            if process.exitcode is None:
                process.kill()
                process.join()


@contextmanager
def _keyboard_left_to_the_parent() -> Iterator[None]:
    """Let processes that start here ignore Ctrl-C, which reaches all of a terminal's processes: the
    parent ends them."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _next(results: Any, processes: Sequence[Any]) -> tuple[str, Any]:
    while True:
        try:
            return results.get(timeout=_SECONDS_BETWEEN_CHECKS)
        except queue.Empty:
            for process in processes:
                if process.exitcode:
                    raise WorkError(
                        f"A measuring process ended with code {process.exitcode}. Out of memory? "
                        "Fewer processes (--workers 1) need less; finished rows are kept."
                    ) from None


def open_backbone(plan: Any) -> Any:
    """Load the model that a plan names, with its vision memory where it names one."""
    from tasm.backbone.loading import load_backbone
    from tasm.vision_memory.saving import attach_vision_memory

    backbone = load_backbone(plan.model, dtype=plan.dtype, device=plan.device)
    if plan.vision_memory is not None:
        attach_vision_memory(backbone, plan.vision_memory)
    return backbone


def _work(plan: Any, measure: Measure, waiting: Any, results: Any) -> None:
    """Run in each process: load the model once, then take unit after unit."""
    signal.signal(signal.SIGTERM, _leave)  # so that temporary folders are removed
    try:
        import torch

        torch.set_num_threads(1)
        backbone = open_backbone(plan)
        while (unit := waiting.get()) is not None:
            for result in measure(backbone, unit):
                results.put((_RESULT, result))
        results.put((_DONE, None))
    except SystemExit:
        results.cancel_join_thread()
    except BaseException:
        results.put((_FAILED, traceback.format_exc()))


def _leave(number: int, _: Any) -> None:
    raise SystemExit(128 + number)

"""Keeps transformers from talking while a model is opened: what matters is raised as an error."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back transformers' warnings, and its progress bars where nobody watches a terminal.

    ```python
    with quiet():
        model = AutoModelForCausalLM.from_pretrained(folder)
    ```
    """
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    if not sys.stderr.isatty():
        logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()

"""Asking: a frozen model, a task memory and a query give an answer.

This room knows how to run a query against a memory, alone or in batches, how to tell which
demonstrations an answer drew on, and how to ask the full context or no demonstrations at all. It
knows nothing about how a memory is built or where it lies.
"""

from tasm.answer.ask import ask_all
from tasm.answer.model import Model, load_model, wrap
from tasm.answer.result import Answer
from tasm.answer.without_memory import full_context, ordinary_answers, zero_shot_answers

__all__ = [
    "Answer",
    "Model",
    "ask_all",
    "full_context",
    "load_model",
    "ordinary_answers",
    "wrap",
    "zero_shot_answers",
]

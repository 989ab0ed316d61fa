"""Attention over one run of keys, by whichever kernel the device has, and the merge of several.

Knows tensors only: no segments, no caches, no models. With logits z_i over run i, its output o_i
and l_i = log sum exp z_i, attention over all runs is sum_i exp(l_i - l) o_i, where
l = log sum_i exp l_i. Every kernel returns both; `written_out` is what they are tested against.
"""

from tasm.backbone.attention.kernels.choosing import partial_attention
from tasm.backbone.attention.kernels.merging import merge, total_log_sum_exp
from tasm.backbone.attention.kernels.written_out import (
    exponentials,
    float32_product,
    grouped_logits,
    numbers_at_once,
    written_out_attention,
)

__all__ = [
    "exponentials",
    "float32_product",
    "grouped_logits",
    "merge",
    "numbers_at_once",
    "partial_attention",
    "total_log_sum_exp",
    "written_out_attention",
]

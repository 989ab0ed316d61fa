"""Speed rows that are counted: operations of a decode step, bytes that a build holds."""

import pytest
import torch

from tasm.bench.speed.bench import QUICK, Bench
from tasm.bench.speed.counting import decode_ops, decode_ops_over_stock, peak_tensor_bytes


@pytest.fixture(scope="module")
def bench() -> Bench:
    return Bench("random:qwen2_vl-tiny", scale=QUICK)


@pytest.mark.parametrize(("gate", "most"), [("never", 1.25), ("js", 1.6), ("missing", 1.7)])
def test_operations_of_a_decode_step(gate: str, most: float, bench: Bench) -> None:
    assert 1 < decode_ops_over_stock(bench, gate) <= most
    assert decode_ops(bench, gate) == decode_ops(bench, gate)


def test_bytes_alive_at_once() -> None:
    assert peak_tensor_bytes(lambda: torch.ones(1000).add(1).sum()) == 8000
    assert peak_tensor_bytes(lambda: torch.ones(1000)[:10].view(2, 5)) == 4000
    kept = torch.ones(1000)
    assert peak_tensor_bytes(lambda: kept.add_(1)) == 0

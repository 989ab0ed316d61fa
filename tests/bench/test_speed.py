"""The speed table: its rows are measured on a tiny model; no time is held against a limit here."""

import gc
import subprocess
import sys

import pytest
import torch

from tasm.bench.speed import clock, counting
from tasm.bench.speed.bench import FULL, QUICK, Bench
from tasm.bench.speed.clock import time_ratio
from tasm.bench.speed.counting import Counted
from tasm.bench.speed.figures import SPEED_ROWS, Measured, SpeedRow
from tasm.bench.speed.run import MEASURES, measure_speed
from tasm.bench.speed.subjects import memory_cache, stock_cache, stock_prefill
from tasm.errors import InputError

CPU = torch.device("cpu")


@pytest.fixture
def bench(model_folder):
    return Bench(str(model_folder), scale=QUICK)


@pytest.mark.slow
def test_the_quick_setting_measures_every_row(monkeypatch):
    """The whole table in one go, as `tasm bench speed --quick` measures it."""
    # What the peaks' own processes have built and saved is not built again.
    monkeypatch.setattr(Bench, "build_streaming", None)
    # Builds' bytes are counted in tests/compress/test_peaks.py: a hundred builds are too many here.
    monkeypatch.setattr(
        counting, "count_build", lambda _, recipe, count, words: Counted(*[count] * 3)
    )
    steps = []
    found = measure_speed(
        "random:qwen2_vl-tiny", scale=QUICK, progress=lambda *step: steps.append(step)
    )
    rows = {row.name: row.value for row in found.rows}
    assert list(rows) == list(MEASURES)
    assert all(value > (-1 if name == "gate_over_decode" else 0) for name, value in rows.items())
    assert all(row.against.startswith("reported: ") for row in found.rows)
    assert steps == [(name, done, 1) for name in MEASURES for done in (0, 1)]


def test_limits_are_for_the_full_setting(bench, monkeypatch, model_folder):
    monkeypatch.setitem(MEASURES, "gate_over_decode", lambda bench: 0.5)
    for scale, is_missed in ((FULL, True), (QUICK, False)):
        found = measure_speed(str(model_folder), rows=["gate_over_decode"], scale=scale)
        assert found.rows[0].is_missed == is_missed
        assert (found.complaint is not None) == is_missed


def test_the_garbage_collector_is_left_as_it_was(monkeypatch, model_folder):
    monkeypatch.setitem(MEASURES, "gate_over_decode", lambda bench: gc.freeze() or 0.5)
    measure_speed(str(model_folder), rows=["gate_over_decode"], scale=QUICK)
    assert gc.get_freeze_count() == 0


def test_every_row_has_its_measure_and_its_limit_in_words():
    assert [row.name for row in SPEED_ROWS] == list(MEASURES)
    by_name = {row.name: row for row in SPEED_ROWS}
    assert by_name["build_over_prefill"].against.startswith("at most 1.3")
    assert by_name["batch8_expanded_over_shared"].against.startswith("at least 2")
    assert by_name["decode_full_over_memory@4k"].against.startswith("reported")


def test_limits_hold_or_are_marked():
    low, high = SpeedRow("a", "", at_most=1.1), SpeedRow("b", "", at_least=2)
    assert low.holds(1.1) and not low.holds(1.2) and high.holds(2) and not high.holds(1.9)
    assert Measured(low, 1.2).cells[1:5] == ("1.200", "ratio", "at most 1.1", "MISSED")
    assert Measured(high, 2.5).cells[1:5] == ("2.500", "ratio", "at least 2", "yes")
    assert Measured(SpeedRow("c", ""), 2.5).cells[3:5] == ("reported", "")


def test_the_stock_twin_is_the_same_model(bench):
    """What a memory is timed against must compute the same: last keys of all layers agree."""
    from tasm.answer import full_context

    stock = stock_prefill(bench.stock, bench.transcript)
    memory = full_context(bench.backbone, bench.demonstrations)
    for layer, kept in enumerate(memory.core):
        keys = stock.layers[layer].keys[0]
        assert keys.shape == kept.keys.shape
        assert torch.allclose(keys, kept.keys, atol=1e-4)
    twin, own = dict(bench.stock.hf.named_parameters()), bench.backbone.hf.named_parameters()
    assert all(twin[name].data_ptr() == tensor.data_ptr() for name, tensor in own)
    assert bench.backbone.decoder.config._attn_implementation == "tasm"


def test_filled_caches_hold_what_they_say(bench):
    stock, memory = stock_cache(bench.backbone, 50, batch=2), memory_cache(bench.backbone, 50)
    assert stock.get_seq_length() == 50 and stock.layers[0].keys.shape[0] == 2
    assert memory.get_seq_length() == 0
    assert all(segments[0].tokens == 50 for segments in memory.segments)


def test_turns_are_taken():
    calls = []
    time_ratio(lambda: calls.append("a"), lambda: calls.append("b"), device=CPU, rounds=3)
    assert "".join(calls) == "ab" + "ab" + "ba" + "ab"


def test_the_median_round_is_what_counts(monkeypatch):
    """Of rounds 2 : 1, 6 : 2 and 9 : 9: the median of the ratios, not a ratio of medians."""
    times = iter([2.0, 1.0, 2.0, 6.0, 9.0, 9.0])
    monkeypatch.setattr(clock, "seconds_of", lambda work, device: next(times))
    given = {"device": CPU, "rounds": 3, "warm_up": 0}
    assert time_ratio(lambda: None, lambda: None, **given) == 2.0


def test_no_round_begins_when_the_time_is_spent():
    calls = []
    time_ratio(
        lambda: calls.append("a"), lambda: calls.append("b"),
        device=CPU, rounds=9, seconds=0.0, warm_up=0,
    )  # fmt: skip
    assert "".join(calls) == "ab"


def test_peaks_see_what_was_held_and_freed():
    """In a process of its own, as the bench measures: one that has freed much before may take from
    that what it holds."""
    program = (
        "import torch\n"
        "from tasm.bench.speed.building import peak_above\n"
        "cpu = torch.device('cpu')\n"
        "print(peak_above(lambda: torch.ones(10_000_000), cpu), peak_above(lambda: None, cpu))\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    held, nothing = map(int, run.stdout.split())
    assert 20_000_000 < held < 120_000_000
    assert nothing < 20_000_000


def test_an_unknown_row_is_refused(model_folder):
    with pytest.raises(InputError, match="Did you mean 'decode_growth'"):
        measure_speed(str(model_folder), rows=["decode_grow"])

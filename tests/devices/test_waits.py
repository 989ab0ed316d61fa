"""What the host waits for while a query is read and answered: nothing a layer, or once a search.

A wait costs a GPU its queue of work. Beside a memory the layers ask for none; where the bank lies
in host memory, each layer with a gate needs one to know whether to search, whatever it decides.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import DynamicCache

from tasm.backbone import attach, detach
from tasm.memory import TaskMemory
from tests.compress.tiny_backbone import build_tiny
from tests.devices.elsewhere import BackboneElsewhere, elsewhere
from tests.pretended_device import Watch, pretending

QUERY, TOKEN = list(range(20, 29)), [30]
SHUT, OPEN = 1e9, 0.0


@pytest.fixture(scope="module", params=["qwen2_vl", "llama", "gemma3"])
def there(request: Any) -> Iterator[BackboneElsewhere]:
    with pretending():
        return elsewhere(request.param)


@pytest.fixture(scope="module")
def memory(there: BackboneElsewhere, tmp_path_factory: Any) -> TaskMemory:
    """Loaded from disk, as most are: core and bank lie on the host until a cache places them. Its
    gate is `js`, which needs a reference; others need nothing of it."""
    return opened(there, "tasm", tmp_path_factory)


def opened(there: BackboneElsewhere, recipe: str, tmp_path_factory: Any) -> TaskMemory:
    folder: Path = tmp_path_factory.mktemp("memory") / "m.tasm"
    with pretending():
        build_tiny(there, 5, recipe=recipe, core="40%", bank="40%").save(folder)
    return TaskMemory.load(folder)


def read(there: BackboneElsewhere, cache: Any, words: list[int], batch: int = 1) -> None:
    ids = torch.tensor([words] * batch).to("pretended")
    with torch.inference_mode():
        there.hf(
            input_ids=ids, past_key_values=cache, use_cache=True, **there.tiny._token_types(ids)
        )


def waits_of(
    watch: Watch, there: BackboneElsewhere, cache: Any, batch: int = 1
) -> dict[str, list[Any]]:
    """The waits of a query read in one call, and those of two steps after it."""
    found = {}
    for name, words in (("query", QUERY), ("step", TOKEN), ("next step", TOKEN)):
        watch.clear()
        read(there, cache, words, batch)
        found[name] = list(watch.waits)
    return found


def of_stock(watch: Watch, there: BackboneElsewhere, batch: int = 1) -> dict[str, list[Any]]:
    detach(there.hf)
    try:
        cache = DynamicCache(config=there.hf.config.get_text_config(decoder=True))
        return waits_of(watch, there, cache, batch)
    finally:
        attach(there.hf)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    "given",
    [
        {"gate": "never"},
        {"gate": "js", "epsilon": SHUT, "bank_on": "device"},
        {"gate": "js", "epsilon": OPEN, "bank_on": "device"},
        {"gate": "js", "bank_on": "device"},
        {"gate": "always", "bank_on": "device"},
        {"gate": "missing", "epsilon": SHUT, "bank_on": "device"},
        {"gate": "missing", "epsilon": OPEN, "bank_on": "device"},
        {"gate": "entropy", "bank_on": "device"},
    ],
    ids=["never", "shut", "open", "calibrated", "always", "m-shut", "m-open", "entropy"],
)
def test_layers_wait_for_nothing(
    given: dict[str, Any], batch: int, there: BackboneElsewhere, memory: TaskMemory
) -> None:
    with pretending() as watch:
        stock = of_stock(watch, there, batch)
        found = waits_of(watch, there, memory.cache(device="pretended", **given), batch)
    for name in ("step", "next step"):
        assert Counter(found[name]) == Counter(stock[name])
    # A few a call, none a layer: whether a mask that the family makes itself hides anything, and
    # whether tokens stand for pictures.
    ours = [wait.place.rpartition(" ")[2] for wait in found["query"] if wait.is_ours]
    assert set(ours) <= {"_real", "refuse_missing_pixels", "call_positions"}
    assert all(ours.count(place) <= 2 for place in ours)


@pytest.mark.parametrize("padding", [0, 3])
def test_a_mask_is_looked_at_no_oftener_than_by_the_stock_cache(
    padding: int, there: BackboneElsewhere, memory: TaskMemory
) -> None:
    """Rows of two lengths, and rows of one with a mask all the same."""

    def waits(cache: Any) -> list[Counter[str]]:
        ids, mask = torch.tensor([QUERY] * 2), torch.ones(2, len(QUERY), dtype=torch.long)
        mask[0, :padding] = 0
        found = []
        for _ in range(3):
            given = {"input_ids": ids.to("pretended"), "attention_mask": mask.to("pretended")}
            watch.clear()
            with torch.inference_mode():
                there.hf(
                    **given,
                    **there.tiny._token_types(given["input_ids"]),
                    past_key_values=cache,
                    use_cache=True,
                )
            found.append(Counter(wait.operation for wait in watch.waits))
            ids, mask = torch.tensor([TOKEN] * 2), torch.cat([mask, mask[:, -1:]], 1)
        return found[1:]

    with pretending() as watch:
        detach(there.hf)
        stock = waits(DynamicCache(config=there.hf.config.get_text_config(decoder=True)))
        attach(there.hf)
        assert waits(memory.cache(device="pretended", gate="never")) == stock


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize(
    ("gate", "epsilon"), [("js", SHUT), ("js", OPEN), ("missing", SHUT), ("missing", OPEN)]
)
def test_a_bank_on_the_host_is_one_wait_a_gated_layer(
    gate: Any, epsilon: float, batch: int, there: BackboneElsewhere, memory: TaskMemory
) -> None:
    with pretending() as watch:
        stock = of_stock(watch, there, batch)
        cache = memory.cache(device="pretended", gate=gate, epsilon=epsilon, bank_on="host")
        assert cache.extra is not None
        gated = len(cache.extra.gated_layers)
        assert gated > 0
        found = waits_of(watch, there, cache, batch)
        triggered = cache.extra.statistics.triggered()
        # Whether the bank outweighs the core is for the random keys to say.
        assert gate == "missing" or triggered == [float(epsilon == OPEN)] * batch
        assert epsilon == OPEN or triggered == [0.0] * batch
    for name in ("query", "step", "next step"):
        searching = [wait for wait in found[name] if "in_attention" in wait.place]
        assert [wait.operation for wait in searching] == ["to host"] * gated
        others = [wait for wait in found[name] if wait not in searching]
        if name != "query":
            assert Counter(others) == Counter(stock[name])


@pytest.mark.parametrize("batch", [1, 3])
def test_a_gate_that_weighs_waits_nowhere(
    batch: int, there: BackboneElsewhere, tmp_path_factory: Any
) -> None:
    """It is asked while a query is read: on the device without waiting, then never again."""
    weighing = opened(there, "tasm-weighing-gate", tmp_path_factory)
    with pretending() as watch:
        stock = of_stock(watch, there, batch)
        cache = weighing.cache(device="pretended", bank_on="device")
        found = waits_of(watch, there, cache, batch)
        for name in ("step", "next step"):
            assert Counter(found[name]) == Counter(stock[name])
        assert not [wait for wait in found["query"] if "retrieval" in wait.place]
        assert max(cache.extra.statistics.triggered()) <= 1 / 3


def test_steps_that_ask_no_gate_wait_for_nothing(
    there: BackboneElsewhere, memory: TaskMemory
) -> None:
    with pretending() as watch:
        stock = of_stock(watch, there)
        asked = memory.replaced(gate=replace(memory.gate, kind="missing", first_steps=1))
        cache = asked.cache(device="pretended", epsilon=OPEN, bank_on="host")
        found = waits_of(watch, there, cache)
        for name in ("step", "next step"):
            assert Counter(found[name]) == Counter(stock[name])
        assert len(cache.extra.statistics.triggered()) == 1


def test_unpacking_at_each_step_waits_for_no_values() -> None:
    """Nothing has a size that the values say, and small tables went to the device once."""
    with pretending() as watch:
        there = elsewhere()
        packed = build_tiny(there, 5, recipe="compact", core="40%", store="int4")
        stock = of_stock(watch, there)
        found = waits_of(watch, there, packed.cache(device="pretended", unpack="each step"))
        assert Counter(found["next step"]) == Counter(stock["next step"])


@pytest.mark.parametrize(
    "granularity", ["neighbourhood", "image", "page", "block", "image-mean", "selecting-layers"]
)
def test_blocks_of_a_bank_are_chosen_without_waiting(granularity: str) -> None:
    with pretending() as watch:
        there = elsewhere()
        built = build_tiny(there, 5, core="40%", bank="40%")
        built = built.replaced(gate=replace(built.gate, granularity=granularity, kind="always"))
        cache = built.cache(device="pretended", bank_on="device")
        read(there, cache, QUERY)
        watch.clear()
        read(there, cache, TOKEN)
        assert [wait for wait in watch.waits if wait.is_ours] == []


def test_generate_waits_a_step_as_often_as_beside_a_stock_cache(
    memory: TaskMemory, there: BackboneElsewhere
) -> None:
    """`generate` reads its own stopping criteria and masks; a memory adds nothing to a step."""

    def counted(cache: Any, steps: int) -> int:
        watch.clear()
        ids = torch.tensor([QUERY]).to("pretended")
        there.hf.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            past_key_values=cache,
            max_new_tokens=steps,
            min_new_tokens=steps,
            do_sample=False,
            suppress_tokens=[190, 191, 192, 193],
        )
        return len(watch.waits)

    with pretending() as watch:
        detach(there.hf)
        config = there.hf.config.get_text_config(decoder=True)
        stock = [counted(DynamicCache(config=config), steps) for steps in (2, 5)]
        attach(there.hf)
        for given in ({"gate": "never"}, {"gate": "js", "bank_on": "device"}):
            ours = [
                counted(memory.cache(device="pretended", **given), steps)  # type: ignore[arg-type]
                for steps in (2, 5)
            ]
            assert ours[1] - ours[0] <= stock[1] - stock[0]

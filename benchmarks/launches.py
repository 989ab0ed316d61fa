"""What a build asks a device to launch, counted without one.

```console
$ PYTHONPATH=. python benchmarks/launches.py --demonstrations 15,30,60
```

Counts the operations that are no views, on the tests' pretended device: layers and heads of a 7B
model, heads of 16 numbers. A fused kernel of CUDA is written out there, so that a device launches
fewer; a build that warms up goes before. Times nothing.
"""

import argparse
from collections import Counter
from collections.abc import Sequence

import torch

from tasm.backbone.checkpoint.random_models import RANDOM_MODELS, RandomModel, random_model
from tasm.backbone.loading import wrap_backbone
from tasm.bench.speed.subjects import noise_demonstrations, stock_prefill, stock_twin
from tasm.compress.api import build
from tests.pretended_device import NAME, moved, pretending

WARM_UP = 4
VIEWS = frozenset(
    """_unsafe_view alias as_strided chunk detach diagonal empty empty_like empty_strided expand
    is_same_size lift_fresh movedim narrow new_empty new_empty_strided permute reshape select size
    slice split split_with_sizes squeeze stride swapaxes t transpose unbind unfold unsqueeze view
    view_as""".split()
)
"""Operations that launch nothing."""


def counted(recipes: Sequence[str], demonstrations: Sequence[int], layers: int) -> Counter[str]:
    """Return what "prefill" and each recipe launch, as "RECIPE TOKENS"."""
    geometry = RandomModel(448, 64, layers, 28, 4, 512, 64, 1, 2, 224, max_positions=1 << 20)
    RANDOM_MODELS["qwen2_vl-thin"] = geometry
    hf, processor = random_model("qwen2_vl-thin")
    found: Counter[str] = Counter()
    with pretending() as watch:
        backbone = wrap_backbone(moved(hf, NAME), processor)
        for name in ("prefill", *recipes):
            for count in (WARM_UP, *demonstrations):
                given = noise_demonstrations(count)
                transcript = backbone.transcript(given)
                watch.clear()
                if name == "prefill":
                    with torch.inference_mode():
                        stock_prefill(stock_twin(backbone), transcript)
                else:
                    build(backbone, given, recipe=name, core="20%", notice=None)
                launched = sum(operation not in VIEWS for operation in watch.operations)
                if count in demonstrations:
                    found[f"{name} {len(transcript):,}"] = launched
                    print(f"{name} of {len(transcript):,} tokens: {launched:,}", flush=True)
    return found


def main(given: Sequence[str] | None = None) -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipes", default="snapkv,tasm,compact")
    parser.add_argument("--demonstrations", default="15")
    parser.add_argument("--layers", type=int, default=28)
    options = parser.parse_args(given)
    numbers = [int(one) for one in options.demonstrations.split(",")]
    counted(options.recipes.split(","), numbers, options.layers)


if __name__ == "__main__":
    main()

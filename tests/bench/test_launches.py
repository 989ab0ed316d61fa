"""benchmarks/launches.py: what a build launches grows with the layers, not with the tokens."""

from benchmarks import launches


def test_launches_grow_with_the_layers_and_not_with_the_tokens() -> None:
    one, two = (launches.counted(["tasm"], [4, 8], layers) for layers in (1, 2))
    prefill, build = one["prefill 548"], one["tasm 548"]
    assert 50 < prefill < build
    assert 200 < two["tasm 548"] - build < 1100
    assert one["tasm 1,096"] < 1.3 * build

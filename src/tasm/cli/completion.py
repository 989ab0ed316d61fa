"""What a shell offers after an option: recipes, suites, models. Imports no torch.

The shell's own completion of file names takes over where nothing here fits.
"""

from collections.abc import Callable, Iterable

Names = Callable[[], Iterable[str]]
Complete = Callable[[str], list[str]]


def _one(names: Names) -> Complete:
    """Offer the names that begin with what is written."""
    return lambda incomplete: [name for name in names() if name.startswith(incomplete)]


def _many(names: Names) -> Complete:
    """Offer what a list of names, separated by commas, could go on with."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        given = before.split(",")
        return [before + comma + name for name in _one(names)(last) if name not in given]

    return complete


def _models() -> Iterable[str]:
    """Those that come with tasm, and those that are named as examples."""
    from tasm.backbone.checkpoint.families import FAMILIES
    from tasm.backbone.checkpoint.random_models import RANDOM_MODELS

    named = ["reference", *(f"random:{name}" for name in RANDOM_MODELS)]
    return [*named, *(family.example for family in FAMILIES.values())]


def _recipes() -> Iterable[str]:
    from tasm.compress.recipes.table import all_recipes

    return all_recipes()


def _suites() -> Iterable[str]:
    from tasm.suites.suites import SUITES

    return SUITES


def _speed_rows() -> Iterable[str]:
    from tasm.bench.speed.figures import SPEED_ROWS

    return (row.name for row in SPEED_ROWS)


def _benchmarks() -> Iterable[str]:
    from tasm.bench.paper.benchmarks import BENCHMARKS

    return BENCHMARKS


models, recipes, suites = _one(_models), _one(_recipes), _one(_suites)
dtypes = _one(lambda: ("auto", "float32", "float16", "bfloat16"))
many_recipes, many_suites = _many(_recipes), _many(_suites)
many_benchmarks, speed_rows = _many(_benchmarks), _many(_speed_rows)

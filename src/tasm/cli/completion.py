"""What a shell offers after an option: recipes, suites, models. Imports no torch.

The shell's own completion of file names takes over where nothing here fits.
"""

from collections.abc import Callable, Iterable


def recipes(incomplete: str) -> list[str]:
    """Return the recipes that begin with what is written."""
    return _fitting(_recipes(), incomplete)


def many_recipes(incomplete: str) -> list[str]:
    """Return what a list of recipes, separated by commas, could go on with."""
    return _last_of_a_list(_recipes, incomplete)


def suites(incomplete: str) -> list[str]:
    """Return the suites that begin with what is written."""
    return _fitting(_suites(), incomplete)


def many_suites(incomplete: str) -> list[str]:
    """Return what a list of suites, separated by commas, could go on with."""
    return _last_of_a_list(_suites, incomplete)


def models(incomplete: str) -> list[str]:
    """Return the models that come with tasm and those that are named as examples."""
    from tasm.backbone.checkpoint.families import FAMILIES
    from tasm.backbone.checkpoint.random_models import RANDOM_MODELS

    named = ["reference", *(f"random:{name}" for name in RANDOM_MODELS)]
    return _fitting([*named, *(family.example for family in FAMILIES.values())], incomplete)


def dtypes(incomplete: str) -> list[str]:
    """Return the types that a model can run in."""
    return _fitting(("auto", "float32", "float16", "bfloat16"), incomplete)


def speed_rows(incomplete: str) -> list[str]:
    """Return what a list of speed rows could go on with."""
    return _last_of_a_list(_speed_rows, incomplete)


def many_benchmarks(incomplete: str) -> list[str]:
    """Return what a list of published benchmarks could go on with."""
    return _last_of_a_list(_benchmarks, incomplete)


def _benchmarks() -> list[str]:
    from tasm.bench.paper.benchmarks import BENCHMARKS

    return list(BENCHMARKS)


def _recipes() -> list[str]:
    from tasm.compress.recipes.table import all_recipes

    return list(all_recipes())


def _suites() -> list[str]:
    from tasm.suites.suites import SUITES

    return list(SUITES)


def _speed_rows() -> list[str]:
    from tasm.bench.speed.figures import SPEED_ROWS

    return [row.name for row in SPEED_ROWS]


def _fitting(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _last_of_a_list(names: Callable[[], list[str]], incomplete: str) -> list[str]:
    before, comma, last = incomplete.rpartition(",")
    given = before.split(",")
    return [before + comma + name for name in _fitting(names(), last) if name not in given]

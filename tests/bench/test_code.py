"""A row's key holds a hash of the code that made it."""

from pathlib import Path

from tasm.bench.code import BENCH, ROOMS, TABLES, files


def test_what_decides_a_figure_is_hashed_and_what_shows_it_is_not() -> None:
    names = {name for _, name in files()}
    assert {"compress/compressor.py", "memory/retrieval/gate.py", "bench/measure.py"} <= names
    assert {"backbone/attention/function.py", "suites/suites.py", "answer/ask.py"} <= names
    assert "compress/recipes/recipe.py" in names
    assert not {"bench/plots.py", "cli/app.py", "compress/recipes/table.py"} & names


def test_every_named_room_and_file_is_there() -> None:
    package = Path(__file__).parents[2] / "src" / "tasm"
    assert all((package / room / "__init__.py").is_file() for room in ROOMS)
    assert all((package / "bench" / f"{name}.py").is_file() for name in BENCH)
    tables = package / "compress" / "recipes"
    assert all((tables / f"{name}.py").is_file() for name in TABLES)


def test_another_line_of_code_makes_another_hash(tmp_path: Path, monkeypatch) -> None:
    from tasm.bench import code

    for room in ROOMS:
        (tmp_path / room).mkdir()
    (tmp_path / "bench").mkdir()
    for name in BENCH:
        (tmp_path / "bench" / f"{name}.py").write_text("")
    (tmp_path / "memory" / "core.py").write_text("LAYERS = 3\n")
    found = files(tmp_path)
    monkeypatch.setattr(code, "files", lambda: found)
    code.code_hash.cache_clear()
    before = code.code_hash()
    (tmp_path / "memory" / "core.py").write_text("LAYERS = 4\n")
    code.code_hash.cache_clear()
    assert code.code_hash() != before
    (tmp_path / "memory" / "core.py").write_text("LAYERS = 3\n")
    code.code_hash.cache_clear()
    assert code.code_hash() == before
    code.code_hash.cache_clear()

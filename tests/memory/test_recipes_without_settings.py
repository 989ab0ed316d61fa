"""What shows and rebuilds a memory takes a recipe as it is recorded, settings or none."""

import pytest

from tasm.check.rebuild import settings_of
from tasm.cli.app import main
from tests.memory.memories import task_memory


@pytest.mark.parametrize(
    ("recipe", "mode", "settings"),
    [
        ({"name": "tasm", "settings": {"mode": "streaming"}}, "streaming", {"mode": "streaming"}),
        ({"name": "tasm"}, "joint", {}),
    ],
)
def test_the_mode_is_the_settings_own(recipe, mode, settings, tmp_path, capsys, monkeypatch):
    memory = task_memory().replaced(recipe=recipe)
    memory.save(tmp_path / "m.tasm")
    with pytest.raises(SystemExit) as ended:
        monkeypatch.setattr("sys.argv", ["tasm", "show", str(tmp_path / "m.tasm")])
        main()
    assert not ended.value.code
    assert f"tasm, {mode}" in capsys.readouterr().out
    assert settings_of(memory) == {"recipe": "tasm", **settings}

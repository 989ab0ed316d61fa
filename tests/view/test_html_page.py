"""What pages are made of: what a user wrote stays text, and bars are as long as their figures."""

import re

import pytest
from jinja2 import UndefinedError

from tasm.errors import InputError
from tasm.files import whole_folder
from tasm.view.board_page import Fold, board_page
from tasm.view.html_page import render, share
from tasm.view.scatter import Line, Measured, Scatter
from tasm.view.tables import Bar, BarChart, Cell, Column, Row, Table
from tests.view.html_reader import Node, check_page

NASTY = "</script><img src=x onerror=alert(1)>\"'& `x`"


def board(table: Table, *folds: Fold, panels: tuple[Scatter, ...] = ()) -> Node:
    return check_page(board_page("model", ["About."], panels, table, folds))


def test_text_is_escaped_everywhere() -> None:
    table = Table.of(NASTY, [NASTY, "n"], [[NASTY, 1]], ["n"])
    line = Line(0, NASTY, (Measured(10, 0.5, 0.4, 0.6, NASTY),))
    panel = Scatter.of(NASTY, NASTY, [line], [(NASTY, 0.9)])
    html = board_page(NASTY, [NASTY], [panel], table, [Fold(NASTY, NASTY, lines=(NASTY,))])
    root = check_page(html)
    assert not root.all("img") and "<img" not in html
    assert root.text.count(NASTY) >= 9
    assert root.all("section") == [] and len(root.all("script")) == 1


def test_a_value_that_a_template_needs_is_not_left_out() -> None:
    with pytest.raises(UndefinedError):
        render("board.html", title="t")


def test_shares_as_people_read_them() -> None:
    shown = [share(value).replace("\xa0", " ") for value in (0.0, 0.001, 0.123, 1.0)]
    assert shown == ["0 %", "< 1 %", "12 %", "100 %"]


def test_bars_are_in_proportion() -> None:
    bars = [
        Bar("a", ((1.0, "core"), (2.0, "bank")), "3"),
        Bar("b", ((6.0, "core"),), "6"),
    ]
    assert BarChart.of("c", bars).largest == 6.0
    assert BarChart.of("c", bars, largest=12.0).largest == 12.0
    assert BarChart.of("c", [Bar("a", ((0.0, "core"),), "0")]).largest == 1.0


def test_an_interval_is_a_bar_with_a_tick() -> None:
    cell = Cell("0.500", 0.5, interval=(0.25, 0.75))
    table = Table("t", (Column("recipe"), Column("mean", figures=True)), (Row((Cell("a"), cell)),))
    (bar,) = board(table).all("span", "interval")
    widths = re.findall(r"(left|width):([\d.]+)%", bar.all("i")[0].attributes["style"])
    assert widths == [("left", "25.0"), ("width", "50.0")]
    assert bar.all("b")[0].attributes["style"] == "left:50.0%"


def test_wide_tables_say_that_they_scroll() -> None:
    wide = Table.of("t", ["a", "b", "c", "d"], [[1, 2, 3, 4]])
    narrow = Table.of("t", ["a", "b"], [[1, 2]])
    for table, hidden in ((wide, False), (narrow, True)):
        (hint,) = board(table).all("p", "hint")
        assert ("hidden" in hint.attributes) is hidden


def test_points_stand_where_their_figures_say() -> None:
    points = (Measured(5, 0.5, 0.4, 0.6, "a"), Measured(20, 0.9, 0.8, 1.0, "b"))
    panel = Scatter.of("t", "x", [Line(0, "r", points)])
    low, high = panel.ends
    assert panel.left(low) == 0 and panel.left(high) == 100
    assert panel.left(10) == pytest.approx(50)  # half way between 5 and 20 on this axis
    assert [name for name, _ in panel.ticks] == ["5", "10", "20"]
    root = board(Table.of("t", ["a"], [[1]]), panels=(panel,))
    chips = [node for node in root.all("span", "chip") if "bottom" in node.attributes["style"]]
    assert [re.findall(r"bottom:([\d.]+)%", node.attributes["style"]) for node in chips] == [
        ["50.0"],
        ["90.0"],
    ]


def test_marks_at_one_place_stand_aside() -> None:
    lines = [Line(n, str(n), (Measured(20, 0.5, 0.4, 0.6, ""),)) for n in range(4)]
    panel = Scatter.of("t", "x", lines)
    assert [aside for _, _, aside in panel.marks] == [0, 1, -1, 2]
    apart = [Line(n, str(n), (Measured(20, 0.2 * n, 0, 1, ""),)) for n in range(4)]
    assert [aside for _, _, aside in Scatter.of("t", "x", apart).marks] == [0] * 4


def test_a_folder_appears_whole_or_not_at_all(tmp_path) -> None:
    out = tmp_path / "out"
    with pytest.raises(RuntimeError), whole_folder(out, mark="page") as folder:
        (folder / "page").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    for text in ("first", "second"):
        with whole_folder(out, mark="page") as folder:
            (folder / "page").write_text(text)
    assert (out / "page").read_text() == "second"
    assert list(tmp_path.iterdir()) == [out]


def test_a_folder_of_somebody_elses_is_not_replaced(tmp_path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="not replaced"), whole_folder(tmp_path / "mine", "page"):
        pass
    assert (tmp_path / "mine" / "thesis.txt").exists()

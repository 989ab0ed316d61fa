"""A page as a tree, read with html.parser alone; fails on tags closed in the wrong order."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br", "img", "input", "line", "polyline"}
NOT_IN_P = {"div", "p", "ul", "dl", "table", "details", "section", "figure", "h1", "h2", "h3"}


@dataclass
class Node:
    """An element: its tag, attributes, parent and children; texts are strings among these."""

    tag: str
    attributes: dict[str, str]
    parent: "Node | None" = None
    children: list["Node | str"] = field(default_factory=list)

    def all(self, tag: str, class_: str = "") -> list["Node"]:
        """Every element below with this tag (and class), in the order of the page."""
        return [
            node
            for node in self.below()
            if node.tag == tag and class_ in (*node.attributes.get("class", "").split(), "")
        ]

    def below(self) -> list["Node"]:
        found = []
        for child in self.children:
            if isinstance(child, Node):
                found += [child, *child.below()]
        return found

    def above(self) -> list["Node"]:
        return [] if self.parent is None else [self.parent, *self.parent.above()]

    @property
    def text(self) -> str:
        return "".join(child if isinstance(child, str) else child.text for child in self.children)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.here = self.root = Node("", {})

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert self.here.tag != "p" or tag not in NOT_IN_P, f"<{tag}> in <p>"
        names = [name for name, _ in attributes]
        assert len(set(names)) == len(names), f"<{tag}> repeats an attribute"
        node = Node(tag, {name: value or "" for name, value in attributes}, self.here)
        self.here.children.append(node)
        if tag not in VOID:
            self.here = node

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)

    def handle_endtag(self, tag: str) -> None:
        assert self.here.tag == tag, f"</{tag}> closes <{self.here.tag}>"
        assert self.here.parent is not None
        self.here = self.here.parent

    def handle_data(self, data: str) -> None:
        self.here.children.append(data)


def read(page: str) -> Node:
    """Return the page's tree; every element is closed, and no id is given twice."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.here is reader.root
    ids = [node.attributes["id"] for node in reader.root.below() if "id" in node.attributes]
    assert len(set(ids)) == len(ids)
    return reader.root


def check_page(page: str) -> Node:
    """What holds of every page: it stands alone, fits a phone, and its tables are in cards."""
    root = read(page)
    assert "http" not in page.replace("http-equiv", "")
    assert "@import" not in page
    for node in root.below():
        assert node.tag not in ("link", "iframe", "object", "form")
        for name in ("src", "href"):
            assert node.attributes.get(name, "data:").startswith("data:")
        assert not any(name.startswith("on") for name in node.attributes)
    (viewport,) = [n for n in root.all("meta") if n.attributes.get("name") == "viewport"]
    assert "width=device-width" in viewport.attributes["content"]
    (style,) = root.all("style")
    assert "prefers-color-scheme:dark" in style.text
    for table in root.all("table"):
        classes = [node.attributes.get("class", "").split() for node in table.above()]
        assert any("card" in names for names in classes)
        if "bars" not in table.attributes.get("class", ""):
            assert "scroll" in classes[0]
        assert table.all("caption")
    assert len(root.all("h1")) == 1
    return root

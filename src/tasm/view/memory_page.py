"""`tasm show --html`: what a memory holds, as one page with heat maps over its pictures.

It reads a memory and the thumbnails stored with it; it follows no recorded path and loads no model.
"""

from typing import TYPE_CHECKING

import numpy as np

from tasm.backbone.prompt.transcript import Role
from tasm.view.heat_maps import (
    BANK_COLOUR,
    CORE_COLOUR,
    HeatMap,
    Shares,
    as_sprite,
    data_uri,
    heat_maps,
    kept_shares,
)
from tasm.view.html_page import Bar, bar_chart, escape, facts, page

if TYPE_CHECKING:
    from tasm.memory import DemonstrationEntry, TaskMemory

CORE, BANK, REST = "var(--core)", "var(--bank)", "var(--rest)"
HEAT_STYLE = """
.controls { position:sticky; top:0; z-index:2; background:var(--page); padding:.7rem 0;
  display:flex; flex-wrap:wrap; gap:.5rem 1.4rem; align-items:center;
  border-bottom:1px solid var(--line); margin-bottom:1rem; }
.controls label { cursor:pointer; }
.controls input { accent-color:var(--accent); vertical-align:middle; }
.controls input[type=range] { width:180px; }
.grid { display:grid; grid-template-columns:repeat(auto-fill,minmax(205px,1fr)); gap:.9rem; }
.card { padding:.7rem; overflow-wrap:anywhere; } .card p { margin:.4rem 0 0; font-size:.88rem; }
.card .answer { font-weight:600; } .card small { color:var(--soft); }
.picture { position:relative; display:block; width:100%; border-radius:6px; overflow:hidden;
  background:var(--rest); margin-bottom:.4rem; }
.picture img { display:block; width:100%; height:auto; filter:grayscale(.85); }
.no-core.no-bank .picture img { filter:none; }
.heat { position:absolute; inset:0; image-rendering:pixelated; background-repeat:no-repeat;
  background-position:0 calc(var(--layer) / var(--layers) * 100%);
  background-size:100% calc((var(--layers) + 1) * 100%); }
.no-core .heat.core, .no-bank .heat.bank { display:none; }
"""
HEAT_SCRIPT = """
const root = document.documentElement, heat = document.getElementById("demonstrations");
const layer = document.getElementById("layer"), name = document.getElementById("layer-name");
layer.oninput = () => { root.style.setProperty("--layer", layer.value);
  name.textContent = layer.value === "0" ? "all layers" : "layer " + (layer.value - 1); };
for (const part of ["core", "bank"]) { const box = document.getElementById("show-" + part);
  box.onchange = () => heat.classList.toggle("no-" + part, !box.checked); box.onchange(); }
layer.oninput();
"""


def memory_page(memory: "TaskMemory", name: str) -> str:
    """Return the page of a memory; `name` is what it is called.

    ```python
    Path("birds.html").write_text(memory_page(tasm.load("birds.tasm"), "birds.tasm"))
    ```

    Raises `DamageError` where a file of the memory is damaged.
    """
    body = [
        f"<h1>{escape(name)}</h1>",
        f'<p class="soft">A task memory for <code>{escape(memory.model_name or "a wrapped model")}'
        f"</code>, recipe <code>{escape(memory.recipe.get('name', '?'))}</code>.</p>",
        facts(_facts(memory)),
        memory_section(memory),
        f"<footer>Model identity <code>{escape(memory.identity.digest)}</code></footer>",
    ]
    return page(
        f"{name} · task memory",
        "\n".join(body),
        style=heat_style(memory),
        script=heat_script(memory),
    )


def memory_section(memory: "TaskMemory") -> str:
    """Return what is kept and the demonstrations with heat maps, as part of a page.

    The page needs `heat_style(memory)` and `heat_script(memory)`. Raises what `memory_page`
    raises.
    """
    core, bank = kept_shares(memory)
    return (
        "<h2>What is kept</h2>"
        f'<p class="soft"><span class="key" style="background:{CORE}"></span>core, always attended'
        f'<span class="key" style="background:{BANK}"></span>bank, retrieved on demand'
        f'<span class="key" style="background:{REST}"></span>left out, or merged into a kept token'
        f'</p><div class="plots">{_by_role(memory, core, bank)}{_by_layer(core, bank)}</div>'
        f"{_demonstrations(memory, core, bank)}"
    )


def heat_script(memory: "TaskMemory") -> str:
    """Return the script that chooses layer and part; none where there is nothing to choose for."""
    return HEAT_SCRIPT if memory.demonstrations else ""


def heat_style(memory: "TaskMemory") -> str:
    """Return the style of the heat maps of a memory."""
    return f":root {{ --layer:0; --layers:{len(memory.core)}; }}{HEAT_STYLE}"


def _facts(memory: "TaskMemory") -> list[tuple[str, str]]:
    megabytes = 1e-6
    full = max(memory.full_bytes, 1)
    core = "core" if memory.core_bytes <= full else "core with its own tables"
    return [
        ("demonstrations", f"{len(memory.demonstrations):,}"),
        ("tokens of the full context", f"{memory.logical_length:,}"),
        ("core", f"{memory.core_bytes * megabytes:,.2f} MB"),
        (f"{core}, of the full context", f"{100 * memory.core_bytes / full:.1f} %"),
        ("bank", f"{memory.bank_bytes * megabytes:,.2f} MB"),
        ("full context", f"{memory.full_bytes * megabytes:,.2f} MB"),
    ]


def _bar(name: str, core: Shares, bank: Shares) -> Bar:
    """The mean shares of some tokens; a token both merged and banked counts as banked."""
    kept, banked = float(core.mean()), float(bank.mean())
    rest = max(0.0, 1 - kept - banked)
    return Bar(
        name,
        ((kept, CORE), (banked, BANK), (rest, REST)),
        f"{100 * kept:.0f} + {100 * banked:.0f} %",
    )


def _by_role(memory: "TaskMemory", core: Shares, bank: Shares) -> str:
    roles = memory.tokens.roles.cpu().numpy()
    bars = [
        _bar(role.name.lower(), core[:, roles == role], bank[:, roles == role])
        for role in Role
        if (roles == role).any()
    ]
    return bar_chart("By what the tokens are", bars, largest=1.0)


def _by_layer(core: Shares, bank: Shares) -> str:
    bars = [_bar(f"layer {number}", core[number], bank[number]) for number in range(len(core))]
    return bar_chart("By layer", bars, largest=1.0)


def _demonstrations(memory: "TaskMemory", core: Shares, bank: Shares) -> str:
    if not memory.demonstrations:
        return ""
    maps = heat_maps(memory, core, bank)
    kept = core.mean(0)
    owners = memory.tokens.demonstration.cpu().numpy()
    thumbnails = memory.thumbnails()
    cards, first = [], 0
    for number, entry in enumerate(memory.demonstrations):
        last = first + len(entry.pictures)
        share = float(kept[owners == number].mean()) if (owners == number).any() else 0.0
        cards.append(_card(thumbnails, entry, maps[first:last], share))
        first = last
    return (
        "<h2>Demonstrations</h2>"
        '<p class="soft">Colour says how many of the heads keep the token at that place. '
        "Without core and bank the pictures have their own colours.</p>"
        '<div class="controls"><label><input type="checkbox" id="show-core" checked> core</label>'
        '<label><input type="checkbox" id="show-bank"> bank</label>'
        f'<label>Layer <input type="range" id="layer" min="0" max="{len(core)}" value="0"> '
        '<span id="layer-name">all layers</span></label></div>'
        f'<div class="grid" id="demonstrations">{"".join(cards)}</div>'
    )


def _card(
    thumbnails: dict[str, bytes], entry: "DemonstrationEntry", maps: list[HeatMap], share: float
) -> str:
    pictures = "".join(
        _picture(thumbnails.get(picture.sha256), heat)
        for picture, heat in zip(entry.pictures, maps, strict=False)
    )
    question = "" if entry.question is None else f"<p>{escape(entry.question)}</p>"
    answer = "" if entry.answer is None else f'<p class="answer">{escape(entry.answer)}</p>'
    return (
        f'<div class="card">{pictures}{question}{answer}'
        f"<small>{escape(entry.id)} · {100 * share:.0f} % in the core</small></div>"
    )


def _picture(thumbnail: bytes | None, heat: HeatMap) -> str:
    _, height, width = heat.core.shape
    image, ratio = "", f' style="aspect-ratio:{width}/{height}"'
    if thumbnail is not None:
        kind = "image/png" if thumbnail.startswith(b"\x89PNG") else "image/jpeg"
        image, ratio = f'<img alt="" src="{data_uri(thumbnail, kind)}">', ""
    layers = [_heat("core", as_sprite(heat.core, CORE_COLOUR))]
    if np.any(heat.bank):
        layers.append(_heat("bank", as_sprite(heat.bank, BANK_COLOUR)))
    return f'<span class="picture"{ratio}>{image}{"".join(layers)}</span>'


def _heat(part: str, sprite: str) -> str:
    return f'<span class="heat {part}" style="background-image:url({sprite})"></span>'

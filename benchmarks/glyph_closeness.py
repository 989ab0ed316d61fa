"""How close held-out glyphs lie to training ones: what "unseen" means in the bundled suites.

Each glyph is drawn as the classes were told apart: DejaVu Sans, centred, 12x12, compared by cosine.

```console
$ python benchmarks/glyph_closeness.py
```
"""

import numpy as np
from PIL import Image

from tasm.suites import fonts

LIMITS = (0.93, 0.9, 0.85, 0.8, 0.7)


def nearest() -> dict[str, float]:
    """For each held-out glyph, the largest cosine with a training glyph."""
    train = np.stack([_small(char) for char in fonts.glyphs("train")])
    return {char: float((train @ _small(char)).max()) for char in fonts.glyphs("held-out")}


def _small(char: str) -> np.ndarray:
    mask = fonts.plain_mask(char, fonts.BASE_FONT)
    small = np.asarray(mask.resize((12, 12), Image.Resampling.BILINEAR), np.float32).ravel()
    return small / (np.linalg.norm(small) + 1e-6)


def main() -> None:
    """Print the share of held-out glyphs above each limit."""
    found = np.array(list(nearest().values()))
    print(f"{len(found)} held-out glyphs, {len(fonts.glyphs('train'))} training glyphs")
    print(f"median cosine with the nearest training glyph: {np.median(found):.3f}")
    for limit in LIMITS:
        print(f"above {limit}: {(found > limit).mean():.0%}, {int((found <= limit).sum())} are not")


if __name__ == "__main__":
    main()

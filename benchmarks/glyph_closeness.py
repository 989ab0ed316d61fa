"""How close held-out glyphs lie to training ones: what "unseen" means in the bundled suites.

Each glyph is drawn as the classes were told apart: DejaVu Sans, centred, 12x12, compared by cosine.

```console
$ python benchmarks/glyph_closeness.py
```
"""

import numpy as np

from tasm.suites import fonts

LIMITS = (0.93, 0.9, 0.85, 0.8, 0.7)


def main() -> None:
    """Print the share of held-out glyphs above each limit."""
    found = np.array(list(fonts.closeness().values()))
    print(f"{len(found)} held-out glyphs, {len(fonts.glyphs('train'))} training glyphs")
    print(f"median cosine with the nearest training glyph: {np.median(found):.3f}")
    for limit in LIMITS:
        print(f"above {limit}: {(found > limit).mean():.0%}, {int((found <= limit).sum())} are not")


if __name__ == "__main__":
    main()

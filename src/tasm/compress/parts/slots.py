"""CAMELoT's write rule: a fixed number of slots that tokens join or take over, in reading order.

He et al., "CAMELoT", arXiv 2402.13449, section 3.2. Knows vectors, not what they are.
"""

import torch
from torch import Tensor
from torch.nn.functional import normalize


def write_slots(
    keys: Tensor, counts: Tensor, writes: Tensor, slots: int, threshold: float
) -> Tensor:
    """Return (kv_heads, entries) int64 the entry that founded the slot each one is in at the end,
    or -1 for one that is in none.

    Entries `writes` (kv_heads, entries) are written one after the other: where the largest cosine
    with a slot's key is above `threshold` the slot takes it in, k ← (c·k + c_i·k_i)/(c + c_i);
    otherwise it replaces the slot that was longest left alone. `keys` is (kv_heads, entries,
    head_dim) float32, `counts` c_i (kv_heads, entries).
    """
    heads, entries, head_dim = keys.shape
    each = torch.arange(heads, device=keys.device)
    key = keys.new_zeros(heads, slots, head_dim)
    count = keys.new_zeros(heads, slots)
    # Empty slots are the oldest, the first of them the very oldest.
    age = torch.arange(slots, 0, -1, device=keys.device).expand(heads, -1) + float(entries)
    founder = torch.full((heads, slots), -1, device=keys.device)
    joined = torch.full((heads, entries), -1, device=keys.device)
    units, unit = normalize(keys, dim=-1), torch.zeros_like(key)
    for entry in range(entries):  # each token meets the slots that those before it have left
        active = writes[:, entry]
        cosine = (unit @ units[:, entry, :, None])[..., 0]
        best = cosine.masked_fill(count == 0, -torch.inf).max(-1)
        joins = best.values > threshold
        target = torch.where(joins, best.indices, age.argmax(-1))
        held = torch.where(joins, count[each, target], 0.0)
        weight = counts[:, entry]
        merged = held[:, None] * key[each, target] + weight[:, None] * keys[:, entry]
        merged = merged / (held + weight)[:, None]
        first = torch.where(joins, founder[each, target], entry)
        merged = torch.where(active[:, None], merged, key[each, target])
        key[each, target], unit[each, target] = merged, normalize(merged, dim=-1)
        count[each, target] = torch.where(active, held + weight, count[each, target])
        founder[each, target] = torch.where(active, first, founder[each, target])
        age = age + active[:, None]
        age[each, target] = torch.where(active, 0.0, age[each, target])
        joined[:, entry] = torch.where(active, first, -1)
    alive = torch.zeros(heads, entries + 1, dtype=torch.bool, device=keys.device)
    alive.scatter_(1, founder + 1, True)
    alive[:, 0] = False  # an empty slot has no founder
    return torch.where(alive.gather(1, joined + 1), joined, -1)

"""Slots written in reading order, a block of tokens at a time: what CAMELoT's two parts share.

He et al., "CAMELoT", arXiv 2402.13449, section 3.2. Knows keys and counts; not what is done with
the slots.

A token meets the slots that those before it have left, so the rule is sequential. But what every
token of a block joins can be guessed, the slots that these guesses leave computed for all of them
at once, and the guesses made anew from those. Where two rounds agree up to a token, that token has
met what it would have met one by one; every round fixes one token at least, most fix all.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import normalize

from tasm.backbone.attention.kernels import numbers_at_once

_LEAST_BLOCK, _LARGEST_BLOCK = 32, 128
"""Tokens: with more of them guesses are wrong more often."""

_MOST = 1 << 22


@dataclass(frozen=True, eq=False)
class _Slots:
    """Slots, longest left alone first: `keys` (kv_heads, slots, head_dim), `counts` and `founders`
    (kv_heads, slots), the entry that founded each; 0 and -1 for an empty one."""

    keys: Tensor
    counts: Tensor
    founders: Tensor


def write_slots(
    keys: Tensor, counts: Tensor, writes: Tensor, slots: int, threshold: float
) -> Tensor:
    """Return (kv_heads, entries) int64 the entry that founded the slot each one is in at the end,
    or -1 for one that is in none.

    Entries `writes` (kv_heads, entries) are written one after the other: where the largest cosine
    with a slot's key is above `threshold` the slot takes it in, k ← (c·k + c_i·k_i)/(c + c_i);
    otherwise it replaces the slot that was longest left alone. `keys` is (kv_heads, entries,
    head_dim), `counts` c_i (kv_heads, entries).
    """
    heads, entries, head_dim = keys.shape
    joined = torch.full((heads, entries), -1, device=keys.device)
    held = _Slots(
        keys.new_zeros(heads, slots, head_dim),
        keys.new_zeros(heads, slots),
        torch.full((heads, slots), -1, device=keys.device),
    )
    # A block's cosines with the slots take a sixteenth of the keys.
    room = numbers_at_once(keys.numel() // 16, 0, _MOST, keys.device)
    step = min(_LARGEST_BLOCK, max(_LEAST_BLOCK, room // (heads * slots)))
    for first in range(0, entries, step):
        some = slice(first, first + step)
        held, joined[:, some] = _written(
            held, keys[:, some], counts[:, some].to(keys), writes[:, some], threshold, first
        )
    alive = torch.zeros(heads, entries + 1, dtype=torch.bool, device=keys.device)
    alive.scatter_(1, held.founders + 1, True)
    alive[:, 0] = False  # an empty slot has no founder
    return torch.where(alive.gather(1, joined + 1), joined, -1)


def _written(
    held: _Slots, keys: Tensor, counts: Tensor, writes: Tensor, threshold: float, first: int
) -> tuple[_Slots, Tensor]:
    """The slots after a block of tokens, and (kv_heads, tokens) the founder of what each joined.

    A slot's content is a chain: one of the slots before the block (0 to slots - 1), or what token i
    founded (slots + i). Every token leaves a version of its chain. As the slot longest left alone
    is replaced, the chains there are, are always those written last.
    """
    heads, slots = held.founders.shape
    tokens = keys.shape[1]
    numbers = torch.arange(tokens, device=keys.device)
    units = normalize(keys, dim=-1)
    old = units @ normalize(held.keys, dim=-1).transpose(1, 2)
    old.masked_fill_((held.counts == 0)[:, None], -torch.inf)
    chain = (slots + numbers).expand(heads, -1)
    for _ in range(tokens + 1):
        versions = _versions(held, keys, counts, writes, chain)
        there, new_there = _live(versions, numbers, slots)
        best = old.masked_fill(~there, -torch.inf).max(-1)
        new = units @ normalize(versions.keys, dim=-1).transpose(1, 2)
        new_best = new.masked_fill_(~new_there, -torch.inf).max(-1)
        takes_new = new_best.values > best.values
        joins = torch.where(takes_new, new_best.values, best.values) > threshold
        links = torch.where(joins & takes_new, new_best.indices, numbers)
        chosen = torch.where(joins & ~takes_new, best.indices, slots + numbers)
        before, chain = chain, chosen.gather(1, _roots(links))
        if bool(((chain == before) | ~writes).all()):
            break
    ends = torch.full_like(numbers[:1], tokens)
    there, new_there = _live(versions, ends, slots)
    live = torch.cat([there, new_there], -1)[:, 0]
    last = torch.arange(slots + tokens, device=keys.device).where(live, -1)
    last = last.topk(slots, dim=1).values.sort(1).values
    founders = torch.cat([held.founders, first + numbers.expand(heads, -1)], 1)
    founder = founders.gather(1, chain)
    everything = torch.cat([held.keys, versions.keys], 1)
    left = _Slots(
        everything.gather(1, last[..., None].expand(-1, -1, keys.shape[2])),
        torch.cat([held.counts, versions.counts], 1).gather(1, last),
        torch.cat([held.founders, founder], 1).gather(1, last),
    )
    return left, founder.masked_fill(~writes, -1)


@dataclass(frozen=True, eq=False)
class _Versions:
    """What every token of a block leaves of its chain: `keys` (kv_heads, tokens, head_dim),
    `counts`; `until` (kv_heads, tokens) the token that changes it next, `old_until` (kv_heads,
    slots) the one that changes a slot from before; `founds` (kv_heads, tokens) whether it is the
    first of its chain, `writes` whether it leaves any."""

    keys: Tensor
    counts: Tensor
    until: Tensor
    old_until: Tensor
    founds: Tensor
    writes: Tensor


def _versions(
    held: _Slots, keys: Tensor, counts: Tensor, writes: Tensor, chain: Tensor
) -> _Versions:
    """What the chains become if every token joins the one that is guessed."""
    slots, tokens = held.founders.shape[1], keys.shape[1]
    numbers = torch.arange(tokens, device=keys.device)
    same = (chain[:, :, None] == chain[:, None]) & (writes[:, :, None] & writes[:, None])
    parts = (same.tril() * counts[:, None]).to(keys.dtype)
    is_old = chain < slots
    of = chain.clamp(max=slots - 1)
    before = held.counts.gather(1, of) * is_old
    sums = parts @ keys
    sums += before[..., None] * held.keys.gather(1, of[..., None].expand(-1, -1, keys.shape[2]))
    total = parts.sum(-1) + before
    later = same.triu(1)
    until = numbers.where(later, tokens).amin(-1)
    old_until = torch.full_like(held.founders, tokens).scatter_reduce(
        1, of, numbers.where(is_old & writes, tokens), "amin"
    )
    founds = writes & ~is_old & (chain == slots + numbers)
    return _Versions(
        sums / total.clamp(min=1e-30)[..., None], total, until, old_until, founds, writes
    )


def _live(versions: _Versions, at: Tensor, slots: int) -> tuple[Tensor, Tensor]:
    """(kv_heads, n, slots) and (kv_heads, n, tokens) bool: which slots of before, and which
    versions, tokens numbered `at` (n,) meet."""
    tokens = versions.until.shape[1]
    numbers = torch.arange(tokens, device=at.device)
    earlier = numbers < at[:, None]
    new = earlier & (versions.until[:, None] >= at[:, None]) & versions.writes[:, None]
    # So many replace a slot: of those that nothing has changed the ones longest left alone, which
    # are among the first; then what the block itself wrote first.
    founded = (earlier & versions.founds[:, None]).sum(-1, keepdim=True)
    old = versions.old_until[:, None] >= at[:, None]
    head = old[..., :tokens]
    old[..., :tokens] = head & (head.cumsum(-1, dtype=torch.int32) > founded)
    later = new.flip(-1).cumsum(-1, dtype=torch.int32).flip(-1)
    return old, new & (later <= slots)


def _roots(links: Tensor) -> Tensor:
    """(kv_heads, tokens) where following `links`, each to an earlier token or itself, ends."""
    for _ in range(links.shape[1].bit_length()):
        links = links.gather(1, links)
    return links

"""Records of the queries themselves: their moments, or chosen ones kept."""

from dataclasses import dataclass

import torch
from torch import Tensor

from tasm.compress.records.record import Reading, Record
from tasm.compress.records.row_rules import Rows


@dataclass(frozen=True, eq=False)
class Moments:
    """Queries before rotation: `count`, `total` (query_heads, head_dim), `products` (query_heads,
    head_dim, head_dim) sum of outer products."""

    count: int
    total: Tensor
    products: Tensor

    @property
    def mean(self) -> Tensor:
        """(query_heads, head_dim)."""
        return self.total / max(1, self.count)

    @property
    def covariance(self) -> Tensor:
        """(query_heads, head_dim, head_dim)."""
        return self.products / max(1, self.count) - self.mean[:, :, None] * self.mean[:, None, :]


@dataclass(frozen=True)
class QueryMoments(Record):
    """Mean and covariance of the chosen rows' queries before rotation. State: `Moments`."""

    rows: str = "all"

    def observe(self, held: Moments | None, reading: Reading) -> Moments:
        """Add this pass's queries."""
        rows = reading.rows.select(self.rows)
        queries = reading.plain_queries(rows)
        total, products = queries.sum(1), queries.transpose(1, 2) @ queries
        if held is None:
            return Moments(len(rows), total, products)
        return Moments(held.count + len(rows), held.total + total, held.products + products)


@dataclass(frozen=True, eq=False)
class Kept:
    """Queries of chosen rows: `queries` (query_heads, rows, head_dim) float32 before rotation,
    `index` (rows,) their transcript tokens, `demonstration` (rows,) whose they are."""

    queries: Tensor
    index: Tensor
    demonstration: Tensor


@dataclass(frozen=True)
class Queries(Record):
    """The queries of chosen rows themselves, of every `every`-th demonstration, at most `run` of
    rows that follow each other (None: all of them). With `at_most`, ever fewer demonstrations are
    kept as more come, at equal distances: so many, and less than twice as many. State: `Kept`."""

    rows: str = "answer-starts"
    every: int = 1
    run: int | None = None
    at_most: int | None = None

    def observe(self, held: Kept | None, reading: Reading) -> Kept:
        """Append this pass's queries."""
        rows, index, mine = reading.rows.once(self, self._found)
        queries = reading.plain_queries(rows)
        if held is not None:
            queries = torch.cat([held.queries, queries], 1)
            index = torch.cat([held.index, index])
            mine = torch.cat([held.demonstration, mine])
        if self.at_most is not None and len(mine):
            last = reading.rows.once(
                "newest demonstration", lambda rows: int(rows.demonstration.max())
            )
            read, every = last + 1, 1
            while read // every >= 2 * self.at_most:
                every *= 2
            if every > 1:
                stays = mine % every == 0
                queries, index, mine = queries[:, stays], index[stays], mine[stays]
        return Kept(queries, index, mine)

    def chosen(self, rows: Rows) -> Tensor:
        """Return the numbers (rows,) of the rows that are kept, before some are left out again."""
        found = rows.select(self.rows)
        found = found[rows.demonstration[found] % self.every == 0]
        if self.run is not None and len(found) > self.run:
            # Row i has the row `run` places before it as its `run`-th predecessor: it is too late.
            late = torch.zeros_like(found, dtype=torch.bool)
            late[self.run :] = found[self.run :] == found[: -self.run] + self.run
            found = found[~late]
        return found

    def _found(self, rows: Rows) -> tuple[Tensor, Tensor, Tensor]:
        """The numbers of the rows, their transcript tokens, and whose they are."""
        found = self.chosen(rows)
        return found, found + rows.first, rows.demonstration[found]

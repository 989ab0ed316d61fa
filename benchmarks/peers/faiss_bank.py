"""faiss beside the index of a bank, on what `benchmarks/bank.py` read of the model.

    python -m venv ENV && ENV/bin/pip install faiss-cpu numpy
    ENV/bin/python benchmarks/peers/faiss_bank.py DIR --layer 3 --sizes 100000

One thread. IVF lists and HNSW graphs by inner product, one a KV head; every query head of a group
asks for k, and of what both find the k best count, as in tasm. Recall as in benchmarks/bank.py.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

try:
    import faiss
except ImportError:  # asked for after the help
    faiss = None

HEADS, GROUP, HEAD_DIM = 2, 2, 64


def indexes(keys: Any) -> Iterator[tuple[str, float, Any]]:
    """Yield what it is called, the seconds it took to make, and the index."""
    count = len(keys)
    lists = int(4 * count**0.5)
    started = time.perf_counter()
    quantiser = faiss.IndexFlatIP(HEAD_DIM)
    index = faiss.IndexIVFFlat(quantiser, HEAD_DIM, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid = 128
    index.train(keys)
    index.add(keys)
    seconds = time.perf_counter() - started
    for probes in (8, 16, 32, 64, 128):
        index.nprobe = probes
        yield f"IVF{lists}, {probes} lists", seconds, index
    if count <= 100_000:
        started = time.perf_counter()
        graph = faiss.IndexHNSWFlat(HEAD_DIM, 32, faiss.METRIC_INNER_PRODUCT)
        graph.add(keys)
        seconds = time.perf_counter() - started
        for width in (96, 256, 1024):
            graph.hnsw.efSearch = width
            yield f"HNSW32, {width} wide", seconds, graph


def main() -> None:
    """Print a line of JSON an index."""
    made = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    made.add_argument("folder", type=Path)
    made.add_argument("--layer", type=int, default=3)
    made.add_argument("--sizes", default="100000")
    made.add_argument("--queries", type=int, default=100)
    made.add_argument("--top-k", type=int, default=96)
    given = made.parse_args()
    if faiss is None:
        made.error("faiss is missing: pip install faiss-cpu")
    faiss.omp_set_num_threads(1)
    about = json.loads((given.folder / "tasks.json").read_text())
    asked = np.fromfile(given.folder / f"test.{given.layer}", np.float32)
    asked = asked.reshape(-1, HEADS, GROUP, HEAD_DIM)
    for size in map(int, given.sizes.split(",")):
        there = sum(sum(task["test"]) for task in about["tasks"] if task["stop"] <= size)
        chosen = np.random.default_rng(0).permutation(there)[: given.queries]
        stored = np.memmap(given.folder / f"keys.{given.layer}", np.float16, "r")
        keys = stored.reshape(-1, HEADS, HEAD_DIM)[:size, 0].astype(np.float32)
        queries = asked[chosen, 0]
        logits = np.einsum("qgd,nd->qgn", queries, keys)
        best = np.argpartition(-logits.max(1), given.top_k)[:, : given.top_k]
        exact = _mass(logits, best, about["scaling"])
        for name, seconds, index in indexes(keys):
            times, found = [], []
            for query in queries:
                started = time.perf_counter()
                products, rows = index.search(query, given.top_k)
                times.append(time.perf_counter() - started)
                merged = dict(zip(rows.ravel().tolist(), products.ravel().tolist(), strict=True))
                merged.pop(-1, None)
                found.append(sorted(merged, key=merged.__getitem__, reverse=True)[: given.top_k])
            recall = np.stack(
                [
                    np.minimum(
                        1,
                        _mass(logits[i : i + 1], np.array([rows]), about["scaling"])[0] / exact[i],
                    )
                    for i, rows in enumerate(found)
                ]
            )
            line = {
                "tokens": size,
                "layer": given.layer,
                "index": name,
                "build_seconds": round(seconds, 1),
                "recall": round(float(recall.mean()), 4),
                "recall_p5": round(float(np.quantile(recall, 0.05)), 4),
                "ms": round(1000 * float(np.median(times)), 2),
            }
            print(json.dumps(line), flush=True)


def _mass(logits: Any, rows: Any, scaling: float) -> Any:
    """(queries, group) exponentials of the chosen logits, summed; against a common largest."""
    chosen = np.take_along_axis(logits, rows[:, None], -1) * scaling
    largest = logits.max(-1, keepdims=True) * scaling
    return np.exp(chosen - largest).sum(-1)


if __name__ == "__main__":
    main()

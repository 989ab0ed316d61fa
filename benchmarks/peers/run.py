"""Fit LoRA, a trained prefix and a task memory to the same demonstrations and compare them.

```console
$ python benchmarks/peers/run.py --model reference --suites bind,late --seeds 3 --out out/peers
```
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import fmean
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from adapters import Peer, lora_peer, prefix_peer, tasm_peer

from tasm.answer import ask_all, full_context
from tasm.answer.ask import default_new_tokens
from tasm.answer.generation import generate
from tasm.backbone.loading import load_backbone
from tasm.backbone.transcript import Layout
from tasm.demonstrations import Query, is_correct
from tasm.evaluate.intervals import interval
from tasm.evaluate.suites import Episode, parse_suites

PEERS = ("full", "zero-shot", "tasm", "lora", "prefix")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the comparison and write `rows.jsonl` and `peers.md`."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--model", default="reference")
    parser.add_argument("--suites", default="bind,late,rule")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--queries", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--peers", default=",".join(PEERS))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    backbone = load_backbone(options.model)
    peers = options.peers.split(",")
    rows = options.out / "rows.jsonl"
    done = _read(rows)
    sources = parse_suites(options.suites, queries=options.queries, split="held-out")
    for number, source in enumerate(sources):
        other = sources[(number + 1) % len(sources)]
        for seed in range(options.seeds):
            missing = [p for p in peers if (source.label, seed, p) not in done]
            if not missing:
                continue
            with source.open(seed) as episode, other.open(seed) as elsewhere:
                for row in _measure(backbone, episode, elsewhere, missing, options.epochs):
                    row = {"suite": source.label, "other": other.label, "seed": seed, **row}
                    done[source.label, seed, row["peer"]] = row
                    with rows.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(row) + "\n")
    table = _table(list(done.values()), peers)
    (options.out / "peers.md").write_text(table, encoding="utf-8")
    print(table)


def _read(rows: Path) -> dict[tuple[str, int, str], dict[str, Any]]:
    if not rows.exists():
        return {}
    found = [json.loads(line) for line in rows.read_text(encoding="utf-8").splitlines()]
    return {(row["suite"], row["seed"], row["peer"]): row for row in found}


def _measure(
    backbone: Any, episode: Episode, elsewhere: Episode, peers: Sequence[str], epochs: int
) -> Iterator[dict[str, Any]]:
    context = full_context(backbone, episode.demonstrations)
    new_tokens = default_new_tokens(context)
    there = full_context(backbone, elsewhere.demonstrations)
    untouched = _asked(backbone, there, elsewhere.queries)
    for name in peers:
        with _adapted(name, backbone, episode, epochs, context) as peer:
            correct = _answered(backbone, peer, episode.queries, new_tokens)
            kept = _elsewhere(backbone, peer, elsewhere, default_new_tokens(there))
        yield {
            "peer": name,
            "correct": correct,
            "seconds": peer.seconds,
            "stored_bytes": peer.stored_bytes,
            "forgotten": fmean(untouched) - fmean(kept),
        }


@contextmanager
def _adapted(
    name: str, backbone: Any, episode: Episode, epochs: int, context: Any
) -> Iterator[Peer]:
    if name == "lora":
        with lora_peer(backbone, episode.demonstrations, epochs) as peer:
            yield peer
    elif name == "prefix":
        stored = tasm_peer(backbone, episode.demonstrations).stored_bytes
        yield prefix_peer(backbone, episode.demonstrations, stored, epochs)
    elif name == "tasm":
        yield tasm_peer(backbone, episode.demonstrations)
    elif name == "full":
        yield Peer("full", stored_bytes=context.full_bytes, memory=context)
    elif name == "zero-shot":
        yield Peer("zero-shot")
    else:
        raise SystemExit(f"There is no peer {name!r}; there are {', '.join(PEERS)}.")


def _answered(backbone: Any, peer: Peer, queries: Sequence[Query], new_tokens: int) -> list[float]:
    """Whether each query is answered rightly by the adapted model."""
    if peer.memory is not None:
        return _asked(backbone, peer.memory, queries)
    layout = Layout(multi_image=True)
    found = []
    for query in queries:
        inputs = (
            backbone.query_inputs([query], layout=layout)
            if peer.stands_before_prompts
            else backbone.full_inputs([], query, layout=layout)
        )
        found.append(_right(backbone, query, inputs, peer, new_tokens))
    return found


def _elsewhere(backbone: Any, peer: Peer, episode: Episode, new_tokens: int) -> list[float]:
    """Another suite's queries after its own demonstrations, what was adapted still attached."""
    if not peer.stands_before_prompts:
        return _asked(backbone, full_context(backbone, episode.demonstrations), episode.queries)
    layout = Layout(multi_image=True)
    return [
        _right(
            backbone,
            query,
            backbone.full_inputs(episode.demonstrations, query, layout=layout),
            peer,
            new_tokens,
        )
        for query in episode.queries
    ]


def _asked(backbone: Any, memory: Any, queries: Sequence[Query]) -> list[float]:
    answers = ask_all(backbone, memory, queries, batch_size=40)
    return [
        float(is_correct(answer.text, query.answers))
        for answer, query in zip(answers, queries, strict=True)
    ]


def _right(backbone: Any, query: Query, inputs: Any, peer: Peer, new_tokens: int) -> float:
    cache = peer.cache(backbone.hf)
    generated = generate(backbone, inputs, cache, max_new_tokens=new_tokens)
    tokenizer = getattr(backbone.processor, "tokenizer", backbone.processor)
    text = tokenizer.decode(generated.token_ids[0], skip_special_tokens=True)
    return float(is_correct(text, query.answers))


def _table(rows: Sequence[dict[str, Any]], peers: Sequence[str]) -> str:
    lines = [
        "| suite | peer | accuracy | seconds to adapt | bytes | forgotten elsewhere |",
        "|---|---|---|---|---|---|",
    ]
    for suite in dict.fromkeys(row["suite"] for row in rows):
        for peer in peers:
            own = [row for row in rows if (row["suite"], row["peer"]) == (suite, peer)]
            if not own:
                continue
            found = interval([row["correct"] for row in own])
            lines.append(
                f"| {suite} | {peer} | {found.mean:.3f} [{found.low:.3f}, {found.high:.3f}] "
                f"| {fmean(row['seconds'] for row in own):.1f} "
                f"| {fmean(row['stored_bytes'] for row in own):,.0f} "
                f"| {fmean(row['forgotten'] for row in own):+.3f} |"
            )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()

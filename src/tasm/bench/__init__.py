"""What is measured: accuracy on equal terms, speed, the papers' own tables, and their pictures.

This file names nothing: `tasm.bench.accuracy` runs the leaderboard, `tasm.bench.speed` the
speed table, `tasm.bench.paper` a published table.
"""

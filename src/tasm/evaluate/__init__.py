"""What is measured: accuracy on equal terms, speed, the papers' own tables, and their pictures.

This file names nothing: `tasm.evaluate.accuracy` runs the leaderboard, `tasm.evaluate.speed` the
speed table, `tasm.evaluate.paper` a published table.
"""

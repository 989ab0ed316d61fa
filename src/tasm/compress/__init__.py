"""Offline: demonstrations in, a task memory out.

`tasm.build` is `tasm.compress.api.build`. Recipes are found without importing torch.
"""

"""Mema: a trained memory across the layers of a frozen vision tower.

Names are imported when first used, so that importing the room costs no torch.
"""

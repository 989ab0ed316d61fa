"""An index over a large bank: leaves of a few alike keys, lists of leaves. Knows no files."""

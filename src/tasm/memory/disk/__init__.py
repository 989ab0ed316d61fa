"""A memory as a folder: written whole or not at all, opened unread, checked before it is used."""

"""Storages of bytes: one file per URI scheme, found by its name."""

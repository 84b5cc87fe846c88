"""Where bytes lie: one file a URI scheme, found by its name."""

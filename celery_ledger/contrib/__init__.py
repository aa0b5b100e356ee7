"""Optional parts, each a separate app or module."""

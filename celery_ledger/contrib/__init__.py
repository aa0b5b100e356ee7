"""Optional parts, each an app or a module of its own."""

"""The ledger's table: how rows come in, and every change of their status."""

"""The ledger's table: how rows are written, and every change of their status."""

"""What Django's own tests of tasks run among, where the ledger stands in the place of Django's backends."""

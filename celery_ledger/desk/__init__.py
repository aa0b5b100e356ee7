"""The operators' actions."""

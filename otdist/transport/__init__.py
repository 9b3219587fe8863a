"""Exact optimal transport."""

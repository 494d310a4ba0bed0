"""Servers that every node runs."""

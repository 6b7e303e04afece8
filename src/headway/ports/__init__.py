"""Protocols with their obligations, only where two adapters or a fake exist."""

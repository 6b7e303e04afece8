"""Benchmarks of one machine without servers, and of the same on Postgres: ``python -m benchmarks.embedded``."""

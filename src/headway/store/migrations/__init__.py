"""Alembic migrations, in the wheel."""

"""Celery's own integration suite, unchanged, in each way in which its tasks can run here."""

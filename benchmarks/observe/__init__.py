"""Watching a Celery cluster, side by side with Flower and celery-exporter."""

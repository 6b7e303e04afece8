"""The view of any Celery cluster: events, workers that are asked, broker depths, result backend. Writes observations only."""

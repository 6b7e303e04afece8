"""A real Celery cluster for tests: an application, its workers, a load with known outcomes, and what truly happened."""

"""The embedded engine: Celery's tracer over the job door, with threads and child processes and no broker."""

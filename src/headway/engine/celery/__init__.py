"""Everything that touches a running Celery: attached applications, the courier to the broker, managed workers."""

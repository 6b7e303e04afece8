"""Engines run jobs. Everything that knows Celery lives here (and, for watching, in ``observe``)."""

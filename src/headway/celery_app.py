"""``celery -A headway.celery_app``: Headway's own Celery application, managed, with the settings' broker."""

from headway.bootstrap.celery_app import make_celery_app

celery_app = make_celery_app()

__all__ = ["celery_app"]

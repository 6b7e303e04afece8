"""A Django project as its parts' manuals say to set it up; the tasks in it are all of other people's applications."""

from .celery import app as celery_app

__all__ = ["celery_app"]

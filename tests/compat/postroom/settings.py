"""Settings of the project; places come from the environment."""

from __future__ import annotations

import os
from pathlib import Path

HOME = Path(os.environ["POSTROOM_HOME"])

SECRET_KEY = "only for this test"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "health_check",
    "health_check.contrib.celery",
    "health_check.contrib.celery_ping",
    "post_office",
]
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True}]
DATABASES = {
    "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": HOME / "postroom.db", "OPTIONS": {"timeout": 30}}
}

EMAIL_BACKEND = "post_office.EmailBackend"
EMAIL_FILE_PATH = HOME / "sent"
POST_OFFICE = {
    "CELERY_ENABLED": True,
    "BACKENDS": {"default": "django.core.mail.backends.filebased.EmailBackend"},
}
HEALTHCHECK_CELERY_RESULT_TIMEOUT = 10
HEALTHCHECK_CELERY_QUEUE_TIMEOUT = 10
HEALTHCHECK_CELERY_PING_TIMEOUT = 3

CELERY_BROKER_URL = os.environ["POSTROOM_BROKER"]
CELERY_RESULT_BACKEND = os.environ["POSTROOM_RESULTS"]

"""The project's Celery application, as in Celery's own pages on Django; attached where the environment asks for it."""

from __future__ import annotations

import os
from typing import Any, cast

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "postroom.settings")

app = Celery("postroom")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

if os.environ.get("POSTROOM_ATTACHED"):
    import headway

    cast("Any", headway).attach(app)

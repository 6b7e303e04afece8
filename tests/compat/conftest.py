"""What of other people's code can be run with this Headway."""

from __future__ import annotations

import headway

# The managed way needs the one line that attaches an application.
collect_ignore = [] if "attach" in headway.__all__ else ["test_celery_suite_managed.py"]

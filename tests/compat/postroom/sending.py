"""``python -m postroom.sending 20``: what a view would do: each mail is queued inside a transaction."""

from __future__ import annotations

import sys
from importlib import import_module

import django


def main() -> None:
    """Queue as many mails as were asked for."""
    django.setup()
    from django.db import transaction

    # No types of its own, and not installed beside our own tests.
    mail = import_module("post_office.mail")

    for number in range(int(sys.argv[1])):
        with transaction.atomic():
            mail.send("you@example.org", "us@example.org", subject=f"Letter {number}", message="Yours")


if __name__ == "__main__":
    main()

"""``uvicorn headway.app:create_app --factory``: the server with the thread engine inside."""

from headway.bootstrap.starting import create_app

__all__ = ["create_app"]

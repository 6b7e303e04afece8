"""The pages: read-only and live, over the verbs and the one feed."""

from headway.console.router import console_router

__all__ = ["console_router"]

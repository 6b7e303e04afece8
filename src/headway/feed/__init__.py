"""Readers of the one feed, a file each."""

from headway.feed.frames import Frame
from headway.feed.subscription import Subscription
from headway.feed.tailer import FeedTailer

__all__ = ["FeedTailer", "Frame", "Subscription"]

"""Settings: read once at start, from five places, wrong and unknown ones named all at once."""

from headway.config.cluster import ClusterFile, WorkerGroup, load_cluster
from headway.config.keys import KEYS, Key
from headway.config.settings import Settings, mask_url
from headway.config.sources import load_settings

__all__ = ["KEYS", "ClusterFile", "Key", "Settings", "WorkerGroup", "load_cluster", "load_settings", "mask_url"]

"""The same no-op job for the peers, as their own manuals set it up."""

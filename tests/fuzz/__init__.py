"""Feeds damaged files to everything that reads what strangers wrote: `python -m tests.fuzz`."""

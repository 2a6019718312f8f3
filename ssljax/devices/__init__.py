"""Devices and processes: how a step is divided among them, and what they agree on."""

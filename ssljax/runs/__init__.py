"""A run: its config, its folder, its checkpoints, and how weights get from one to another."""

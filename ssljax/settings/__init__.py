"""Settings: their defaults, ranges and help; config files; the command line; errors."""

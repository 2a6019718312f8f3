"""Probes measure what a backbone's features are worth, without changing the backbone."""

PROBES = ("knn", "linear")

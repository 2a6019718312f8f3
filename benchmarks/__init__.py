"""How fast ssljax is, as ratios to what else could be used; docs/performance.md has the results."""

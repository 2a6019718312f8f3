"""Speed comparisons of ssljax with alternatives; results are in docs/performance.md."""

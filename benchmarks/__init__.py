"""Questions about this package, as scripts; their answers are in `results/`."""

"""What the graph alone costs, without a model: `python -m benchmarks.graph`."""

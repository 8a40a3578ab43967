"""Does throughput grow with the replicas: `python -m benchmarks.scale`."""

"""Does the learning loop learn, and does it refuse what it should? ``python -m benchmarks.learning``."""

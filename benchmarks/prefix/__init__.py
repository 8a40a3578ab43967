"""Do prompts find their beginnings in the caches of several replicas? ``python -m benchmarks.prefix``."""

"""What all of Rheostat costs over a bare vLLM: `python -m benchmarks.overhead`."""

"""The levers on an engine's logits: a pure core, and a thin adapter for each of vLLM's two interfaces."""

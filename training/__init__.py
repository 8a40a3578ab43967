"""The learning loop: feedback becomes training rows, an adapter, a gate to pass, and a service that can go back."""

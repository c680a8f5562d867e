"""KonIQ-10k."""

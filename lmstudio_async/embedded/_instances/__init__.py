"""Loaded models: their registry, their load configs, and their TTL."""

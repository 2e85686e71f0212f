"""Predictions: from a chat and a config to the engine's request, and from its answer to packets."""

"""Handlers of the protocol's endpoints, one class for each namespace."""

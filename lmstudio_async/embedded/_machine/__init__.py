"""Memory and processors of this machine, for models."""

"""The generator of the blocking facade: it reads the source text of the core, and imports nothing of it."""

"""The generator of the blocking facade: it reads the core's text, and imports nothing of it."""

"""Uploaded documents: their content, and the passages that fit a question."""

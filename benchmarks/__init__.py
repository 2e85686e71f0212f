"""Benchmarks of the SDK and of the embedded server. ``tox run -e bench`` installs their packages, and runs both.

``python -m benchmarks.compare`` compares the SDK with other clients, and ``python -m benchmarks.embedded`` the embedded
server with its engine alone.
"""

"""Connections of clients: authentication, requests, and what belongs to a client."""

"""The server behind a port: websockets, and LM Studio's REST calls for models."""

"""Facts about chat templates: how a model marks its thoughts and writes tool calls."""

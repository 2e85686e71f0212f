"""Worker processes that hold one model each, and the requests to them."""

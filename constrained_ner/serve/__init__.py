"""The HTTP server (extra `serve`)."""

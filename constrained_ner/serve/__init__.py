"""A model behind HTTP: extra `serve`."""

"""The embedded engine: the service side, in process."""

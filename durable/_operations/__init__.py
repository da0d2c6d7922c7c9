"""The durable verbs, one a file. They know frames, not contexts."""

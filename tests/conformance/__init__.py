"""AWS's conformance requirements for durable execution, met by this library: `python -m tests.conformance`."""

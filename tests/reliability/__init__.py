"""How reliable this library is, counted: `nox -s reliability` (docs/reliability.md)."""

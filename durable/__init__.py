"""Ordinary `async def` functions that survive crashes, restarts and waits of months."""

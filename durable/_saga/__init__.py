"""The saga: each forward step carries its undo, and a failure undoes what was done, in reverse, durably."""

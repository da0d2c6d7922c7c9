"""One invocation of a durable function: the journal, parking, frames, and the loop that carries decisions out."""

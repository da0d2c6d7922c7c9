"""The pure heart: history plus what the code asks gives a decision. No I/O, no event loop, no clock."""

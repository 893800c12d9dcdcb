"""Pure rules: no I/O, no clock, and no randomness but by argument."""

"""Long runs, started by hand: more of what the tests do a little of."""

"""Numbers about trials, from arrays alone: intervals, comparisons, and what so many trials can find."""

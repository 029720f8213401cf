"""Running a sweep: on what, in which order, on Ray or in this process."""

"""A GPU's minutes: one command with a budget in seconds, which measures what matters most first."""

"""Optuna and ASHA over one trial; no test image is ever read."""

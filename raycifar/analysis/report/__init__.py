"""Tables, figures and words as one report."""

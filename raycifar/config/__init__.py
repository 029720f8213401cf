"""What a sweep file asks: settings, limits, rules."""

"""How certain values are: intervals, agreement, stability."""

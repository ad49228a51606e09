"""How fast a data set is read: rates.py times, baseline.py is the shortest loop beside it."""

"""`motion`, the generated data set: clips.py what moves, order.py in which order, render.py how."""

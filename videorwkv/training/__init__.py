"""The training loop and what it keeps. Read loop.py first."""

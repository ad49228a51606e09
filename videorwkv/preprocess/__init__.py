"""Frames -> what the model reads."""

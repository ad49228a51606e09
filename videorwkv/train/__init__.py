"""Recipes, the loop, checkpoints. Read recipes.py first, then loop.py."""

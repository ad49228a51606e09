"""The scan. README.md has its equations, reference.py its definition."""

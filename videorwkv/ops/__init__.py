"""The scan. Its equations stand in README.md beside this file."""

"""Speed, beside the package: one script a question."""

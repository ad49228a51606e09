"""What LCR is compared with: one peer a file, with LCR's interface."""

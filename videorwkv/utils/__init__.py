"""One of each: atomic writes, progress, worker processes, options, devices."""

"""Models in use: one clip, a data set, a live stream."""

"""When something happens in long videos and streams: segments, how good they are, files of them."""

"""Finding people's poses in images, videos and folders."""

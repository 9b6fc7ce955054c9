"""From an image, video or folder to people."""

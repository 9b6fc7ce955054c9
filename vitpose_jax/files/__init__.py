"""Files: JSON, pictures, videos, and the location of the cache."""

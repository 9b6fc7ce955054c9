"""Files: JSON, pictures, videos, and the place of the cache."""

"""Poses over HTTP: batches across requests, limits, metrics and a page in the browser."""

"""COCO AP/AR, PCK and forecasting metrics."""

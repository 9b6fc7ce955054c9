"""COCO's layout: annotations, categories, detections."""

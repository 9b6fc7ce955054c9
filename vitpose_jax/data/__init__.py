"""Data sets of people: COCO folders, records, synthetic people; augmentation and batching."""

"""COCO's average precision for many small objects."""

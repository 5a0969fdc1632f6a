"""What detectron2 calls after a training: an evaluator per kind of prediction."""

"""The measures of instances: one overlap of true and predicted map gives them all."""

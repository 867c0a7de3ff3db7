"""What is tuned on val after a generation is trained: weights of members, CRF and thresholds of classes."""

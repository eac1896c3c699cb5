"""What detectors see in pictures: feature vectors, their moments, and the kept references."""

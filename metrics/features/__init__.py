"""What detectors see in pictures: vectors, their moments, and the features of real pictures that are kept."""

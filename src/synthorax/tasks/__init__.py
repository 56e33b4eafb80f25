"""What synthetic data is for: detection, malignancy, segmentation."""

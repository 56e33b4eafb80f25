"""Tasks for which synthetic data is made: detection, malignancy, segmentation."""

"""Data for training: stores, shapes, patches and their batches; and folders of synthetic samples."""

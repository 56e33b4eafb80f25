"""The class-aware in-painter of papers/2: benign or malignant nodules of a given size in a patch of CT."""

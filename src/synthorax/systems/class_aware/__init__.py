"""The class-aware in-painter of Yang et al.: benign or malignant nodules of a given size in a patch of CT."""

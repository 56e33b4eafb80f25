"""CT-SGAN of papers/5: whole chest CT, slice by slice, out of the noise of a patient and the noise of its slices."""

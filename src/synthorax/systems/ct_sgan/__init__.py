"""CT-SGAN of papers/5: generates whole chest CT slice by slice, from noise of the patient and noise of each slice."""

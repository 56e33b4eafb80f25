"""CT-SGAN: generates whole chest CT slice by slice, from noise of the patient and noise of each slice."""

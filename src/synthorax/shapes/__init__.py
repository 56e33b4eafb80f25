"""Binary shapes: features, components, reconnection, resampling, meshes."""

"""LuNG: a 3D autoencoder of nodule shapes (Kommrusch and Pouchet)."""

"""Where what is in a chest CT: lungs, tissues, places for nodules."""

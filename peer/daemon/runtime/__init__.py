"""What all the others stand on."""

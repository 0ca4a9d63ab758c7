"""What we send to customers when a generation moves, and the signature that both ways use."""

"""Generations: what a customer asked for, from the order to its one final outcome."""

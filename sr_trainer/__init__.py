"""The program that trains and tests super-resolution networks."""

"""Photographs: enlarged, compared with bicubic and Lanczos in dB, with their metadata kept."""

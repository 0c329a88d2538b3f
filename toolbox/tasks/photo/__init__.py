"""Photographs: enlarged, judged in dB beside bicubic and Lanczos, kept with all they carry."""

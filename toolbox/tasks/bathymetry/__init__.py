"""Sea floors: maps in metres, evaluated by slope class compared with bicubic, with geodata."""

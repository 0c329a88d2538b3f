"""Sea floors: maps in metres, judged by slope class beside bicubic, enlarged with their geodata."""

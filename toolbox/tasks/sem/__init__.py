"""CD-SEM pictures: restored, and judged by the widths of lines and discs in nanometres."""

"""Building blocks that families share; none of them is needed to write one."""

"""Where and on how many ranks a network computes."""

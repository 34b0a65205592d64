"""One optimizer step: the module that trains, its loop, optimizer, average and schedule."""

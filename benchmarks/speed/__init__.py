"""Events per second from ROOT files to training batches: ours, the rivals, and what bounds all."""

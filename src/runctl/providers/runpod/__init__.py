"""RunPod's pods: containers with GPUs, rented on demand, reached by SSH at a mapped port."""

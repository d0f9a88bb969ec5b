"""Training one model with several processes, on torch.distributed."""

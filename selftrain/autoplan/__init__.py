"""Settings derived from the data, the machine and one dial, `budget` (as in nnU-Net, Isensee et al. 2021)."""

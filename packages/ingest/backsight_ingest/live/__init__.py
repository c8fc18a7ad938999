"""What live sources share: HTTP within limits, one retry policy, jobs, coverage, and a pull that loses nothing."""

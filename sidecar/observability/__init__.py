"""What operators see of the proxy: its logs, its metrics, its traces."""

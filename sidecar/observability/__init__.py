"""What operators see of the proxy: logs, metrics and traces."""

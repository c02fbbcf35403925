"""From a configuration to running parts, and from one configuration to the next."""

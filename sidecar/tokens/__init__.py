"""What can be done to a token, whichever door it is done by: command line, page or API."""

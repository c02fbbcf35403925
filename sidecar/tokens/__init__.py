"""What can be done to a token, from the command line, the page and the API alike."""

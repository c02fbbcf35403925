"""Who is calling: the credential in, the account or a denial out."""

"""What the supervisor and its workers need of each other: sockets, words, sums, a successor."""

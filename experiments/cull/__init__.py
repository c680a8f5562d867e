"""Does `driqa cull` put the least degraded shot of a burst first? Bursts are photos and degraded copies of them."""

"""How fast qemustate is, as ratios against the peers beside it; ``python -m bench`` prints them."""

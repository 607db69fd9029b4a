"""What a publisher does on its own machine: make variants, judge them, sign and send them."""

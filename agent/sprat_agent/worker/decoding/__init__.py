"""From the next token's logits to the text that is sent."""

"""Networks: generators, discriminators, text encoders, and what turns a snapshot into pictures."""

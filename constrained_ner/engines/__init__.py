"""Decoding under a grammar: vocabulary, shortest completion, logits processor, generation."""

"""What several tests share: tiny models, hostile inputs, strategies for hypothesis."""

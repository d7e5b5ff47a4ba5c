"""What several formats share: lists of terms, inline tags, spans, code."""

"""The structures of the formats (`*.lark`) and, for the JSON formats, their schemas."""

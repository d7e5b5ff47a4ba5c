"""From documents to entities: prompts, requests to an engine, reading answers, records."""

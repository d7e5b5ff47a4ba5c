"""From documents to entities: prompts, requests to an engine, answers read, records written."""

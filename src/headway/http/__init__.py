"""REST and server-sent events over the service's verbs; pydantic stays in here."""

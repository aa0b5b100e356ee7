"""What every app needs of HTTP: fields, problem documents, limits, and the handler that answers requests."""

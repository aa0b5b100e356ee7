"""HTTP for all apps: fields, problem documents, limits, and the request handler."""

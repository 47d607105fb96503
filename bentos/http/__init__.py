"""HTTP middleware of the service: access control, request validation, problem documents, routes."""

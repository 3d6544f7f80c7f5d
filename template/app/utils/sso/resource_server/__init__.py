"""What makes this service an OAuth 2.0 resource server, below what a team imports."""

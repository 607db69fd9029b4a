"""The HTTPS API: what operators, publishers and enrolling devices call."""

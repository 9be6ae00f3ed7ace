"""The gRPC server of a pserver: authentication, and the services Control, Transfer and Health."""

"""The dashboard: shows people what the tracker knows. Changes nothing in the network."""

"""The tracker as this peer uses it: login session, pings, index, queries, tickets."""

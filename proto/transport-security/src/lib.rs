//! What protects the way to the next hop: DANE, MTA-STS and the reports about both (TLS-RPT), without input or output.

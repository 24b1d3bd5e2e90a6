//! Outbound SMTP: to the next hop, over the protected way.

//! `dns::Lookup` over the network, with a cache.

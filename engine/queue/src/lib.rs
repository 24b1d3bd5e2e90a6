//! The retry plan and the states of a queued recipient: pure, over the rows of the store.
